//! Which tasks to list.

use super::status::Status;
use super::task::TaskPage;

/// Which tasks to list.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// How far they are.
    pub status: Option<Status>,
    /// The tasks' `type`.
    pub kind: Option<String>,
    /// Where they were posted.
    pub channel: Option<String>,
    /// Who has claimed them, by the actor id.
    pub assignee_id: Option<String>,
    /// A text in title or description.
    pub search: Option<String>,
    /// `created_at`, `updated_at`, `priority` or `title`.
    pub sort_by: Option<String>,
    /// `asc` or `desc`.
    pub sort_dir: Option<String>,
    /// The most tasks of a page.
    pub limit: Option<u32>,
    /// How many tasks stand before the page.
    pub offset: Option<u32>,
    /// Where the page begins, as the answer before called it.
    pub cursor: Option<String>,
}

impl ListQuery {
    /// Asks for what follows a page of this query.
    pub fn go_on<T>(&mut self, page: &TaskPage<T>) {
        match &page.cursor {
            Some(cursor) => (self.cursor, self.offset) = (Some(cursor.clone()), None),
            None => self.offset = Some(self.offset.unwrap_or(0).saturating_add(page.len)),
        }
    }

    /// The query of the request, fit to be escaped.
    pub(in crate::ats) fn to_pairs(&self) -> Vec<(&'static str, String)> {
        let pairs = [
            ("status", self.status.as_ref().map(Status::to_string)),
            ("type", self.kind.clone()),
            ("channel", self.channel.clone()),
            ("assignee_id", self.assignee_id.clone()),
            ("search", self.search.clone()),
            ("sort_by", self.sort_by.clone()),
            ("sort_dir", self.sort_dir.clone()),
            ("limit", self.limit.map(|n| n.to_string())),
            ("offset", self.offset.map(|n| n.to_string())),
            ("cursor", self.cursor.clone()),
        ];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_holds_what_was_asked() {
        let query = ListQuery { status: Some(Status::Pending), limit: Some(5), ..ListQuery::default() };
        assert_eq!(query.to_pairs(), [("status", "pending".to_owned()), ("limit", "5".to_owned())]);
    }
}
