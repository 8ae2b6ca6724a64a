//! A database with many tasks, and the lists that clients and the page ask for.

/// What clients ask for: this package's, the public command line's, and one of each filter.
pub(crate) const LISTS: [&str; 20] = [
    "channel=p2p-transfer&type=file_offer&status=pending&limit=100",
    "limit=100",
    "status=pending,in_progress",
    "status=pending",
    "status=completed&channel=channel-7",
    "status=completed&type=task&limit=50",
    "assignee_id=worker-7",
    "channel=channel-3&sort_by=updated_at",
    "sort_by=priority&sort_dir=desc",
    "sort_by=title",
    "created_after=2026-01-01T00:00:00Z&status=in_progress",
    "updated_after=2026-01-01T00:00:00Z&limit=20",
    "type=file_offer&limit=50",
    "search=task%20500",
    "search=nowhere",
    "type=nowhere",
    "status=failed&priority=3&sort_by=updated_at",
    "status=pending&sort_by=title",
    "offset=20000",
    "cursor=1700000000000.1",
];

/// What the hub's page reads again whenever something happens.
pub(crate) const PAGE: [&str; 8] = [
    "/page/transfers",
    "/page/transfers?state=failed",
    "/page/transfers?state=open",
    "/page/transfers?actor=worker-7",
    "/page/transfers?state=completed&cursor=1700000000000.1",
    "/page/transfers/2",
    "/page/connected",
    "/tasks/stats",
];

/// What it reads now and then: all transfers of thirty days, counted, and as many as are looked through for
/// what is not there.
pub(crate) const SLOWER: [&str; 3] =
    ["/page/days", "/page/transfers?text=nowhere", "/page/transfers?actor=agent-6&state=failed"];

/// The statements that put tasks into the database of a hub that has started on it once: most of them over,
/// some open, over a few channels, types and workers.
pub(crate) fn statements(tasks: u64, payload: &str) -> String {
    let now = time::OffsetDateTime::now_utc().unix_timestamp() * 1000;
    format!(
        "WITH RECURSIVE n(n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM n WHERE n < {tasks}),
         made AS (SELECT n, CASE WHEN n % 500 = 0 THEN 'pending' WHEN n % 501 = 0 THEN 'in_progress'
                 WHEN n % 10 = 0 THEN 'failed' ELSE 'completed' END AS status,
             {now} - ({tasks} - n) * 100 AS created, {now} - ({tasks} - n) * 90 AS updated FROM n)
         INSERT INTO tasks (project_id, title, type, channel, priority, status, payload, outputs, source_type,
             source_id, source_name, assignee_type, assignee_id, assignee_name, lease_expires, created_at,
             updated_at, completed_at, due, file_size)
         SELECT 1, 'task ' || CAST((n * 7919) % 1000003 AS TEXT),
             CASE WHEN n % 2 = 1 THEN 'task' ELSE 'file_offer' END,
             CASE WHEN n % 3 = 0 THEN 'channel-' || CAST(n % 10 AS TEXT) ELSE 'p2p-transfer' END, 1 + n % 10,
             status, '{payload}', '[]', 'agent', 'agent-' || CAST(n % 200 AS TEXT), 'A',
             CASE WHEN status <> 'pending' THEN 'agent' END,
             CASE WHEN status <> 'pending' THEN 'worker-' || CAST(n % 200 AS TEXT) END,
             CASE WHEN status <> 'pending' THEN 'W' END,
             CASE WHEN status = 'in_progress' THEN {now} + 3600000 END, created, updated,
             CASE WHEN status = 'completed' THEN updated END,
             CASE WHEN status = 'in_progress' THEN {now} + 3600000 END,
             CASE WHEN n % 2 = 0 THEN 1000000 END
         FROM made;
         DELETE FROM task_counts;
         INSERT INTO task_counts SELECT project_id, channel, status, 0, COUNT(*),
             CAST(COALESCE(SUM(completed_at - created_at), 0) AS BIGINT) FROM tasks GROUP BY 1, 2, 3;
         DELETE FROM task_minutes;
         INSERT INTO task_minutes SELECT created_at / 60000, 1, 0, COUNT(*), COUNT(*) FROM tasks GROUP BY 1;
         DELETE FROM offer_days;
         INSERT INTO offer_days SELECT created_at / 86400000, status, 0, COUNT(*), SUM(file_size)
             FROM tasks WHERE type = 'file_offer' GROUP BY 1, 2;"
    )
}
