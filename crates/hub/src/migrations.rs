//! The tables of the database, as the steps that made them: step 1 makes those of version 1, each further one
//! brings the version before it up to its own. A step that was ever released is not changed again; what
//! comes later is a step of its own at the end of the list.

use sqlx::{Connection as _, Row as _, SqliteConnection};

/// The steps in order; the number of the last is the version that this hub knows.
const STEPS: [&str; 7] = [
    include_str!("../migrations/1.sql"),
    include_str!("../migrations/2.sql"),
    include_str!("../migrations/3.sql"),
    include_str!("../migrations/4.sql"),
    include_str!("../migrations/5.sql"),
    include_str!("../migrations/6.sql"),
    include_str!("../migrations/7.sql"),
];

/// The newest version that this hub knows.
pub(crate) const NEWEST: i64 = STEPS.len() as i64;

/// Brings an empty or older database up to date; gives the version that it then has, which is above
/// [`NEWEST`] where a newer hub wrote it. Each step is in a transaction of its own together with the number
/// that says so: a hub that is killed meanwhile goes on at the step that it did not finish.
pub(crate) async fn run(connection: &mut SqliteConnection) -> sqlx::Result<i64> {
    run_to(NEWEST, connection).await
}

/// [`run`], up to a version.
async fn run_to(newest: i64, connection: &mut SqliteConnection) -> sqlx::Result<i64> {
    loop {
        // Read with the lock held: another hub may be doing the same.
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let version: i64 =
            sqlx::query("PRAGMA user_version").fetch_one(&mut *transaction).await?.try_get(0)?;
        let Some(step) = step_after(version).filter(|_| version < newest) else { return Ok(version) };
        sqlx::raw_sql(step).execute(&mut *transaction).await?;
        let number = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {}", version + 1));
        sqlx::raw_sql(number).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
}

/// What is to be done to a database of a version, if it is older than this hub.
fn step_after(version: i64) -> Option<&'static str> {
    STEPS.get(usize::try_from(version).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database in memory as a hub of that version left it, with tasks that are pending, claimed and done.
    async fn of_version(version: i64) -> SqliteConnection {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.expect("opened");
        run_to(version, &mut connection).await.expect("made");
        let tasks = "
            INSERT INTO organizations (slug, name, created_at) VALUES ('o', 'o', 0);
            INSERT INTO projects (organization_id, slug, name, created_at) VALUES (1, 'p', 'p', 0);
            INSERT INTO tasks (project_id, title, type, channel, priority, status, lease_expires, payload,
                outputs, source_type, source_id, source_name, created_at, updated_at)
            VALUES (1, 'pending', 't', 'c', 5, 'pending', NULL, '{}', '[]', 'agent', 'a', 'A', 0, 0),
                (1, 'claimed', 't', 'c', 5, 'in_progress', 7, '{}', '[]', 'agent', 'a', 'A', 0, 0),
                (1, 'done', 't', 'c', 5, 'completed', NULL, '{}', '[]', 'agent', 'a', 'A', 0, 0);
            INSERT INTO messages (task_id, actor_type, actor_id, actor_name, parts, created_at)
            VALUES (1, 'agent', 'b', 'B', '[]', 0);";
        sqlx::raw_sql(tasks).execute(&mut connection).await.expect("filled");
        connection
    }

    async fn texts(connection: &mut SqliteConnection, query: &'static str) -> Vec<String> {
        sqlx::query_scalar(query).fetch_all(connection).await.expect("read")
    }

    /// What the tables are, however they came to be.
    async fn schema(connection: &mut SqliteConnection) -> Vec<String> {
        let columns = "
            SELECT tables.name || ' ' || columns.name || ' ' || columns.type
            FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
            WHERE tables.type = 'table' ORDER BY 1";
        let indexes = "SELECT name || ' ' || sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL \
            ORDER BY 1";
        let mut schema = texts(connection, columns).await;
        schema.extend(texts(connection, indexes).await);
        schema
    }

    #[tokio::test]
    async fn a_database_of_any_version_is_brought_up_to_date_once_and_keeps_what_it_holds() {
        let mut fresh = SqliteConnection::connect("sqlite::memory:").await.expect("opened");
        assert_eq!(run(&mut fresh).await.expect("made"), NEWEST);
        let expected = schema(&mut fresh).await;
        for version in 1..NEWEST {
            let mut connection = of_version(version).await;
            for _ in 0..2 {
                assert_eq!(run(&mut connection).await.expect("brought up to date"), NEWEST);
                assert_eq!(schema(&mut connection).await, expected, "from version {version}");
                let titles = texts(&mut connection, "SELECT title FROM tasks ORDER BY id").await;
                assert_eq!(titles, ["pending", "claimed", "done"], "from version {version}");
                assert_eq!(texts(&mut connection, "SELECT parts FROM messages").await, ["[]"]);
                let counts = "SELECT status || count FROM task_counts ORDER BY 1";
                let counts = texts(&mut connection, counts).await;
                assert_eq!(counts, ["completed1", "in_progress1", "pending1"], "from version {version}");
            }
        }
    }

    #[tokio::test]
    async fn the_open_tasks_of_version_1_are_due_at_once() {
        let mut connection = of_version(1).await;
        run(&mut connection).await.expect("brought up to date");
        let due: Vec<Option<i64>> = sqlx::query_scalar("SELECT due FROM tasks ORDER BY id")
            .fetch_all(&mut connection)
            .await
            .expect("read");
        assert_eq!(due, [Some(0), Some(0), None]);
    }

    #[tokio::test]
    async fn a_step_that_fails_leaves_the_version_before_it() {
        let mut connection = of_version(1).await;
        let in_the_way = "CREATE INDEX tasks_by_due ON tasks (priority)";
        sqlx::raw_sql(in_the_way).execute(&mut connection).await.expect("made");
        run(&mut connection).await.expect_err("a name that is taken");
        let version: i64 =
            sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut connection).await.expect("read");
        assert_eq!(version, 1);
        let columns = texts(&mut connection, "SELECT name FROM pragma_table_info('tasks')").await;
        assert!(!columns.contains(&"due".to_owned()), "{columns:?}");
    }
}
