//! Any bytes as the answer of a task service: panics where it matters in which pieces they arrive. Fuzzing
//! runs it.

use ats_p2p::ats::{Task, TaskPage};

pub(crate) fn run(data: &[u8]) {
    if let Some(task) = Task::from_json(data) {
        let _ = (task.created_at(), task.lease_expires(), task.to_value());
    }
    // The first byte says where the rest is cut in two.
    let Some((&cut, json)) = data.split_first() else { return };
    let (first, second) = json.split_at(usize::from(cut).min(json.len()));
    let whole = TaskPage::from_json([json]);
    assert_eq!(TaskPage::from_json([first, second]), whole, "the same in two pieces");
    if let Some(page) = whole {
        assert!(u32::try_from(page.tasks.len()).is_ok_and(|tasks| tasks <= page.len));
    }
}
