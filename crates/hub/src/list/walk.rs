//! The numbers of the tasks of a page: few that an index finds are sorted; else the tasks are gone through in
//! their order, which an index has, up to a bound.

use std::cmp::Ordering;

use super::{Position, Sort, TaskQuery, like_pattern, narrow};
use crate::error::{Failure, Refusal};
use crate::sql::{Connection, Parameter, Query, query};
use crate::task::View;

/// How much may be read for one page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    /// How many tasks may be few, to be found and then sorted.
    few: i64,
    /// How many tasks are looked at where some of them may not be wanted.
    looked_at: i64,
}

impl Bounds {
    /// Those of a list in some order. Tasks stand in the database as they were made: in another order each is
    /// in a place of its own.
    pub(super) fn of(sort: Sort) -> Self {
        Self { few: 1000, looked_at: if sort == Sort::CreatedAt { 5000 } else { 1500 } }
    }
}

/// What was found of a list.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// The tasks of the page in their order; one more than it may hold, if there are so many.
    pub(super) positions: Vec<Position>,
    /// How far was looked, where that was not to the end and did not fill the page.
    pub(super) reached: Option<Position>,
}

/// Tasks that stand in an index one after the other, for all that is asked of them here.
#[derive(Debug, Default)]
struct Branch {
    index: &'static str,
    conditions: Vec<Condition>,
    /// Which filters the conditions are.
    covered: Covered,
}

#[derive(Debug, Clone, Copy, Default)]
struct Covered {
    project: bool,
    statuses: bool,
    channel: bool,
    assignee: bool,
}

/// A text, and the value, or the list of some, behind it.
#[derive(Debug, Clone)]
struct Condition(&'static str, Vec<Parameter>);

/// A place to begin behind, or to look no further than, as statements have it.
#[derive(Debug, Clone)]
struct Edge {
    key: Parameter,
    id: i64,
}

impl Condition {
    fn of(text: &'static str, value: impl Into<Parameter>) -> Self {
        Self(text, vec![value.into()])
    }

    fn push_to(&self, sql: &mut Query) {
        sql.push(self.0);
        match self.1.as_slice() {
            [] => {}
            [value] => drop(sql.push_bind(value.clone())),
            values => drop(sql.push_list(values.iter().cloned())),
        }
    }
}

impl TaskQuery {
    /// Finds the tasks of the page.
    pub(super) async fn walk(
        &self,
        connection: &mut Connection,
        project: i64,
        view: &View,
    ) -> Result<Walked, Failure> {
        let behind = match self.cursor {
            None => None,
            Some(cursor) => Some(
                self.place(connection, cursor)
                    .await?
                    .ok_or_else(|| Refusal::bad_request("cursor is of a task that is gone: begin anew"))?,
            ),
        };
        let wanted = self.limit + 1;
        for branch in self.candidates(project) {
            if branch.has_few(connection, self.bounds.few).await? {
                let sql = self.statement(connection, project, view, &branch, behind.as_ref(), None);
                let positions = self.fetch(connection, sql, wanted, self.offset).await?;
                return Ok(Walked { positions, reached: None });
            }
        }
        let branches = self.branches(project, view);
        if let [branch] = branches.as_slice()
            && !self.has_rest(view, branch.covered)
        {
            let sql = self.statement(connection, project, view, branch, behind.as_ref(), None);
            let positions = self.fetch(connection, sql, wanted, self.offset).await?;
            return Ok(Walked { positions, reached: None });
        }
        let (mut positions, mut reached) = (Vec::new(), None::<Position>);
        for branch in &branches {
            let bound = match self.has_rest(view, branch.covered) {
                true => self.bound(connection, branch, behind.as_ref()).await?,
                false => None,
            };
            let until = match bound {
                Some(bound) => self.place(connection, bound).await?,
                None => None,
            };
            let sql = self.statement(connection, project, view, branch, behind.as_ref(), until.as_ref());
            let found = self.fetch(connection, sql, self.offset + wanted, 0).await?;
            if found.len() as i64 <= self.offset + self.limit && bound.is_some() {
                reached = reached.into_iter().chain(bound).min_by(|a, b| self.compare(a, b));
            }
            positions.extend(found);
        }
        if branches.len() > 1 {
            positions.sort_by(|a, b| self.compare(a, b));
            positions.dedup();
            // Behind where one of them was left, others may have what that one has not shown yet.
            if let Some(reached) = reached {
                positions.retain(|position| self.compare(position, &reached) != Ordering::Greater);
            }
        }
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX).min(positions.len());
        positions.drain(..offset);
        positions.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
        let is_full = positions.len() as i64 > self.limit;
        Ok(Walked { positions, reached: reached.filter(|_| !is_full) })
    }

    /// The order of the list; not of one by title, which is that of a single statement.
    fn compare(&self, a: &Position, b: &Position) -> Ordering {
        if self.is_ascending { a.cmp(b) } else { b.cmp(a) }
    }

    /// What few tasks may have, and an index finds.
    fn candidates(&self, project: i64) -> Vec<Branch> {
        let sorted = |by: Sort| self.sort == by;
        let mut candidates = Vec::new();
        let mut add = |index, conditions: Vec<Condition>| {
            let of_project = Condition::of(" AND project_id = ", project);
            let conditions = [of_project].into_iter().chain(conditions).collect();
            candidates.push(Branch { index, conditions, covered: Covered::default() });
        };
        if let Some(after) = self.updated_after.filter(|_| !sorted(Sort::UpdatedAt)) {
            add("tasks_by_update", vec![Condition::of(" AND updated_at > ", after.0)]);
        }
        if let Some(after) = self.created_after.filter(|_| !sorted(Sort::CreatedAt)) {
            add("tasks_by_age", vec![Condition::of(" AND created_at > ", after.0)]);
        }
        if sorted(Sort::CreatedAt) {
            return candidates;
        }
        if let Some(assignee) = &self.assignee_id {
            add("tasks_by_assignee", vec![Condition::of(" AND assignee_id = ", assignee)]);
        }
        if !self.statuses.is_empty() {
            let names: Vec<Parameter> = self.statuses.iter().map(|status| status.name().into()).collect();
            let text = if names.len() == 1 { " AND status = " } else { " AND status IN " };
            add("tasks_by_state", vec![Condition(text, names)]);
        }
        if let Some(channel) = &self.channel {
            add("tasks_by_channel", vec![Condition::of(" AND channel = ", channel)]);
        }
        if let Some(priority) = self.priority.filter(|_| !sorted(Sort::Priority)) {
            add("tasks_by_priority", vec![Condition::of(" AND priority = ", priority)]);
        }
        candidates
    }

    /// Where all tasks of the list are, in its order each.
    fn branches(&self, project: i64, view: &View) -> Vec<Branch> {
        let of_project = Condition::of(" AND project_id = ", project);
        let branch = |index, conditions: Vec<Condition>, covered: Covered| Branch {
            index,
            conditions: [of_project.clone()].into_iter().chain(conditions).collect(),
            covered: Covered { project: true, ..covered },
        };
        let none = Covered::default();
        match self.sort {
            Sort::CreatedAt => {}
            Sort::UpdatedAt => return vec![branch("tasks_by_update", vec![], none)],
            Sort::Priority => return vec![branch("tasks_by_priority", vec![], none)],
            Sort::Title => return vec![branch("tasks_by_title", vec![], none)],
        }
        if let (View::Of(id), Some(protocol::offer::TASK_TYPE)) = (view, self.kind.as_deref()) {
            // Those of others may be many.
            let own = [
                ("offers_by_recipient", Condition::of(" AND recipient_id = ", id)),
                ("offers_by_recipient", Condition(" AND recipient_id IS NULL", vec![])),
                ("offers_by_source", Condition::of(" AND source_id = ", id)),
                ("offers_by_assignee", Condition::of(" AND assignee_id = ", id)),
            ];
            let is_offer = Condition(" AND type = 'file_offer'", vec![]);
            return own
                .map(|(index, own)| Branch { index, conditions: vec![is_offer.clone(), own], covered: none })
                .into();
        }
        if let Some(assignee) = &self.assignee_id {
            let is_theirs = Condition::of(" AND assignee_id = ", assignee);
            return vec![branch("tasks_by_assignee", vec![is_theirs], Covered { assignee: true, ..none })];
        }
        let in_channel = self.channel.as_ref().map(|channel| Condition::of(" AND channel = ", channel));
        let channel = in_channel.is_some();
        if self.statuses.is_empty() {
            let index = if channel { "tasks_by_channel" } else { "tasks_by_age" };
            return vec![branch(index, in_channel.into_iter().collect(), Covered { channel, ..none })];
        }
        let index = if channel { "tasks_by_status" } else { "tasks_by_state" };
        let mut names: Vec<&str> = self.statuses.iter().map(|status| status.name()).collect();
        names.sort_unstable();
        names.dedup();
        let of_status = |name| {
            let is = Condition::of(" AND status = ", name);
            let conditions = [is].into_iter().chain(in_channel.clone()).collect();
            branch(index, conditions, Covered { statuses: true, channel, ..none })
        };
        names.into_iter().map(of_status).collect()
    }

    /// Whether some of the tasks of a branch may not be wanted.
    fn has_rest(&self, view: &View, covered: Covered) -> bool {
        let is_sorted = |by: Sort| self.sort == by;
        let has_priority =
            self.priority.is_some() || self.min_priority.is_some() || self.max_priority.is_some();
        *view != View::All
            || !covered.project
            || !covered.statuses && !self.statuses.is_empty()
            || !covered.channel && self.channel.is_some()
            || !covered.assignee && self.assignee_id.is_some()
            || self.kind.is_some()
            || self.search.is_some()
            || self.created_after.is_some() && !is_sorted(Sort::CreatedAt)
            || self.updated_after.is_some() && !is_sorted(Sort::UpdatedAt)
            || has_priority && !is_sorted(Sort::Priority)
    }

    /// Adds all filters that a branch does not cover.
    fn push_rest(&self, sql: &mut Query, project: i64, view: &View, covered: Covered, like: &'static str) {
        if !covered.project {
            sql.push(" AND tasks.project_id = ").push_bind(project);
        }
        if !covered.statuses && !self.statuses.is_empty() {
            let names = self.statuses.iter().map(|status| Parameter::from(status.name()));
            sql.push(" AND status IN ").push_list(names);
        }
        for (column, value) in [
            (" AND type = ", self.kind.as_ref()),
            (" AND channel = ", self.channel.as_ref().filter(|_| !covered.channel)),
            (" AND assignee_id = ", self.assignee_id.as_ref().filter(|_| !covered.assignee)),
        ] {
            if let Some(value) = value {
                sql.push(column).push_bind(value);
            }
        }
        self.push_ranges(sql, |_| true);
        if let Some(search) = &self.search {
            let pattern = like_pattern(search);
            sql.push(" AND (title").push(like).push_bind(&pattern).push(" ESCAPE '\\'");
            sql.push(" OR description").push(like).push_bind(pattern).push(" ESCAPE '\\')");
        }
        narrow(sql, view);
    }

    /// Adds the filters by time and priority, of some of the columns.
    fn push_ranges(&self, sql: &mut Query, of: impl Fn(Sort) -> bool) {
        for (by, condition, value) in [
            (Sort::CreatedAt, " AND created_at > ", self.created_after.map(|time| time.0)),
            (Sort::UpdatedAt, " AND updated_at > ", self.updated_after.map(|time| time.0)),
            // Not as equal: SQLite would sort by what is the same for all.
            (Sort::Priority, " AND priority >= ", self.priority),
            (Sort::Priority, " AND priority <= ", self.priority),
            (Sort::Priority, " AND priority >= ", self.min_priority),
            (Sort::Priority, " AND priority <= ", self.max_priority),
        ] {
            if let Some(value) = value.filter(|_| of(by)) {
                sql.push(condition).push_bind(value);
            }
        }
    }

    /// The column, or what is made of one, that the list is sorted by.
    fn column(&self) -> &'static str {
        match self.sort {
            Sort::CreatedAt => "created_at",
            Sort::UpdatedAt => "updated_at",
            Sort::Priority => "priority",
            Sort::Title => "lower(title)",
        }
    }

    /// What of a branch is behind a place, and what its statement begins with.
    fn begin(&self, connection: &Connection, branch: &Branch, behind: Option<&Edge>) -> Query {
        let mut sql = query("SELECT ");
        sql.push(if self.sort == Sort::Title { "CAST(0 AS BIGINT)" } else { self.column() })
            .push(", id FROM tasks");
        branch.push_to(&mut sql, connection);
        if let Some(behind) = behind {
            self.push_place(&mut sql, if self.is_ascending { " > " } else { " < " }, behind);
        }
        sql
    }

    /// Adds that a task is on one side of a place.
    fn push_place(&self, sql: &mut Query, side: &'static str, place: &Edge) {
        // What the index is entered by.
        let inclusive = if side.contains('>') { " >= " } else { " <= " };
        sql.push(" AND ").push(self.column()).push(inclusive).push_bind(place.key.clone());
        sql.push(" AND (").push(self.column()).push(", id)").push(side);
        sql.push("(").push_bind(place.key.clone()).push(", ").push_bind(place.id).push(")");
    }

    fn push_order(&self, sql: &mut Query) {
        let direction = if self.is_ascending { " ASC" } else { " DESC" };
        // The number makes the order total, so that pages neither overlap nor leave gaps.
        sql.push(" ORDER BY ").push(self.column()).push(direction).push(", id").push(direction);
    }

    /// The statement for the tasks of a branch that are wanted, between two places.
    fn statement(
        &self,
        connection: &Connection,
        project: i64,
        view: &View,
        branch: &Branch,
        behind: Option<&Edge>,
        until: Option<&Edge>,
    ) -> Query {
        let mut sql = self.begin(connection, branch, behind);
        if let Some(until) = until {
            self.push_place(&mut sql, if self.is_ascending { " <= " } else { " >= " }, until);
        }
        self.push_rest(&mut sql, project, view, branch.covered, connection.like());
        self.push_order(&mut sql);
        sql
    }

    async fn fetch(
        &self,
        connection: &mut Connection,
        mut sql: Query,
        limit: i64,
        offset: i64,
    ) -> sqlx::Result<Vec<Position>> {
        sql.push(" LIMIT ").push_bind(limit).push(" OFFSET ").push_bind(offset);
        let rows = sql.fetch_all(connection).await?;
        rows.iter().map(|row| Ok(Position { key: row.try_get(0)?, id: row.try_get(1)? })).collect()
    }

    /// How far a branch is looked at, where that is not to its end.
    async fn bound(
        &self,
        connection: &mut Connection,
        branch: &Branch,
        behind: Option<&Edge>,
    ) -> sqlx::Result<Option<Position>> {
        let mut sql = self.begin(connection, branch, behind);
        // What is before its beginning is not looked at.
        self.push_ranges(&mut sql, |by| by == self.sort);
        self.push_order(&mut sql);
        Ok(self.fetch(connection, sql, 1, self.bounds.looked_at - 1).await?.first().copied())
    }

    /// A place as statements have it; none of a task that is gone.
    async fn place(&self, connection: &mut Connection, at: Position) -> sqlx::Result<Option<Edge>> {
        if self.sort != Sort::Title {
            return Ok(Some(Edge { key: at.key.into(), id: at.id }));
        }
        let row =
            query("SELECT lower(title) FROM tasks WHERE id = $1").bind(at.id).fetch_optional(connection);
        let title = row.await?.map(|row| row.try_get::<String>(0)).transpose()?;
        Ok(title.map(|title| Edge { key: title.into(), id: at.id }))
    }
}

impl Branch {
    /// Adds the conditions, and for SQLite, which knows nothing of how many rows there are, the index.
    fn push_to(&self, sql: &mut Query, connection: &Connection) {
        if !connection.is_shared() {
            sql.push(" INDEXED BY ").push(self.index);
        }
        sql.push(" WHERE 1 = 1");
        for condition in &self.conditions {
            condition.push_to(sql);
        }
    }

    async fn has_few(&self, connection: &mut Connection, few: i64) -> sqlx::Result<bool> {
        let mut sql = query("SELECT COUNT(*) FROM (SELECT 1 FROM tasks");
        self.push_to(&mut sql, connection);
        sql.push(" LIMIT ").push_bind(few + 1).push(") AS found");
        Ok(sql.fetch_value::<i64>(connection).await? <= few)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::list::Page;
    use crate::rows::{Scope, project_of};
    use crate::store::Database;
    use crate::task::Status;

    fn parse(text: &str) -> TaskQuery {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        let pairs: HashMap<String, String> = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        TaskQuery::parse(&pairs).expect("a query")
    }

    async fn database() -> (tempfile::TempDir, Connection, i64) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (_, mut connection) = Database::open(dir.path(), None).await.expect("opened");
        crate::rows::make_default_project(&mut connection).await.map_err(sqlx::Error::from).expect("made");
        let project =
            project_of(&mut connection, &Scope::default_one()).await.expect("read").expect("a project");
        (dir, connection, project)
    }

    /// How SQLite goes about a statement.
    async fn plan(connection: &mut Connection, sql: Query) -> Vec<String> {
        let rows = sql.explained().fetch_all(connection).await.expect("a plan");
        rows.iter().map(|row| row.try_get("detail").expect("a step")).collect()
    }

    /// With a million tasks, each list that went through all of them or sorted them took up to a second and a
    /// half.
    #[tokio::test]
    async fn no_list_reads_through_the_tasks_or_sorts_them() {
        let (_dir, mut connection, project) = database().await;
        let cursors = ["", "&cursor=5.5"];
        for filters in [
            "",
            "status=pending",
            "status=pending,in_progress",
            "status=pending&channel=c",
            "channel=c",
            "assignee_id=a",
            "type=file_offer",
            "search=x",
            "priority=5",
            "min_priority=2&max_priority=9",
            "created_after=5",
            "updated_after=5",
            "type=file_offer&status=pending&channel=c",
        ] {
            for sort in ["created_at", "updated_at", "priority", "title"] {
                for (direction, cursor) in [("asc", 0), ("desc", 1), ("asc", 1), ("desc", 0)] {
                    let text = format!("{filters}&sort_by={sort}&sort_dir={direction}{}", cursors[cursor]);
                    for view in [View::All, View::Of("b".into())] {
                        let asked = parse(&text);
                        let place = asked.cursor.map(|at| Edge {
                            key: if sort == "title" { "t".into() } else { at.key.into() },
                            id: at.id,
                        });
                        for branch in asked.branches(project, &view) {
                            let place = place.as_ref();
                            let sql = asked.statement(&connection, project, &view, &branch, place, place);
                            let steps = plan(&mut connection, sql).await;
                            let is_good = |step: &String| {
                                step.starts_with("SEARCH tasks") && step.contains(branch.index)
                            };
                            assert!(steps.iter().all(is_good), "{text} {view:?}: {steps:#?}");
                        }
                        for branch in asked.candidates(project) {
                            let sql =
                                asked.statement(&connection, project, &view, &branch, place.as_ref(), None);
                            // What is few is sorted.
                            let steps = plan(&mut connection, sql).await;
                            let is_good = |step: &String| {
                                step.contains(branch.index) && step.starts_with("SEARCH")
                                    || step.contains("TEMP B-TREE")
                            };
                            assert!(steps.iter().all(is_good), "{text} {view:?}: {steps:#?}");
                        }
                    }
                }
            }
        }
    }

    /// Numbers that look random.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: u64) -> i64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 33) % sides) as i64
        }
    }

    async fn fill(connection: &mut Connection, project: i64, dice: &mut Dice) {
        for _ in 0..300 {
            let is_offer = dice.roll(2) == 0;
            let name = |dice: &mut Dice, sides| format!("{}", (b'a' + dice.roll(sides) as u8) as char);
            let created = dice.roll(40);
            query(
                "INSERT INTO tasks (project_id, title, type, channel, priority, status, payload, outputs, \
                 source_type, source_id, source_name, assignee_id, created_at, updated_at, recipient_id) \
                 VALUES ($1, $2, $3, $4, $5, $6, '{}', '[]', 'agent', $7, 'A', $8, $9, $10, $11)",
            )
            .bind(project)
            .bind(name(dice, 5))
            .bind(if is_offer { "file_offer" } else { "task" })
            .bind(name(dice, 3))
            .bind(1 + dice.roll(10))
            .bind(Status::ALL[dice.roll(6) as usize].name())
            .bind(name(dice, 3))
            .bind((dice.roll(2) == 0).then(|| name(dice, 3)))
            .bind(created)
            .bind(created + dice.roll(40))
            .bind((is_offer && dice.roll(3) > 0).then(|| name(dice, 3)))
            .execute(connection)
            .await
            .expect("made");
        }
    }

    fn any_query(dice: &mut Dice) -> String {
        let mut text = format!("limit={}", 1 + dice.roll(40));
        for part in [
            "&status=pending",
            "&status=pending,completed,failed",
            "&type=file_offer",
            "&type=task",
            "&channel=a",
            "&assignee_id=b",
            "&search=C",
            "&created_after=20",
            "&updated_after=60",
            "&updated_after=20",
            "&priority=3",
            "&min_priority=4",
            "&max_priority=7",
            "&sort_by=updated_at",
            "&sort_by=priority",
            "&sort_by=title",
            "&sort_dir=asc",
            "&sort_dir=desc",
        ] {
            if dice.roll(5) == 0 {
                text.push_str(part);
            }
        }
        text
    }

    /// All of a list by one statement that goes through the tasks.
    async fn all(connection: &mut Connection, asked: &TaskQuery, project: i64, view: &View) -> Vec<i64> {
        let mut sql = query("SELECT id FROM tasks WHERE 1 = 1");
        asked.push_rest(&mut sql, project, view, Covered::default(), " LIKE ");
        asked.push_order(&mut sql);
        sql.fetch_values(connection).await.expect("read")
    }

    #[tokio::test]
    async fn pages_that_follow_each_other_are_the_whole_list_whatever_is_looked_at_for_each() {
        let (_dir, mut connection, project) = database().await;
        let mut dice = Dice(7);
        fill(&mut connection, project, &mut dice).await;
        let scope = Scope::default_one();
        let (mut cut, mut few) = (0, 0);
        for _ in 0..400 {
            let text = any_query(&mut dice);
            let view = if dice.roll(2) == 0 { View::All } else { View::Of("b".into()) };
            let mut asked = parse(&text);
            asked.bounds = Bounds { few: dice.roll(40), looked_at: 1 + dice.roll(60) };
            let expected = all(&mut connection, &asked, project, &view).await;
            let mut seen = Vec::new();
            loop {
                let page = asked.run(&mut connection, &scope, &view).await;
                let Page { tasks, has_more, cursor, .. } = page.map_err(sqlx::Error::from).expect("a page");
                cut += usize::from(has_more && (tasks.len() as i64) < asked.limit);
                few += usize::from(!has_more);
                seen.extend(tasks.iter().map(|task| task.id));
                assert_eq!(has_more, cursor.is_some(), "{text} {view:?}");
                let Some(cursor) = cursor else { break };
                asked.cursor = Position::parse(&cursor);
            }
            assert_eq!(seen, expected, "{text} {view:?} {:?}", asked.bounds);
            // From the beginning, by how many there are before; as far as is looked.
            let (offset, mut asked) = (dice.roll(30), parse(&text));
            asked.offset = offset;
            let page =
                asked.run(&mut connection, &scope, &view).await.map_err(sqlx::Error::from).expect("a page");
            let ids: Vec<i64> = page.tasks.iter().map(|task| task.id).collect();
            let skipped: Vec<i64> = expected.iter().skip(offset as usize).copied().collect();
            assert_eq!(ids, skipped[..skipped.len().min(asked.limit as usize)], "{text} {view:?} {offset}");
            assert_eq!(page.has_more, skipped.len() > ids.len(), "{text} {view:?} {offset}");
        }
        assert!(cut > 50 && few > 50, "{cut} pages ended early");
    }
}
