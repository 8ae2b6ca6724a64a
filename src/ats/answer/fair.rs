//! Keeps messages within a bound that no single author can fill.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use super::lenient::Read;

/// What all kept messages may cost: some hundred of those that peers exchange.
const MAX_COST: usize = 512 * 1024;
/// What a value costs besides its bytes: the memory of a small object.
const COST_OF_VALUE: usize = 200;
/// What a message costs besides its values.
const COST_OF_MESSAGE: usize = 200;

/// Messages in their order. For want of room, the oldest of whoever has the most go first, so that a flood by
/// one author hides the messages of no other.
#[derive(Debug, Default)]
pub(super) struct FairMessages {
    by_author: HashMap<String, Author>,
    cost: usize,
    count: u32,
    left_out: u32,
}

#[derive(Debug, Default)]
struct Author {
    messages: VecDeque<Kept>,
    cost: usize,
}

#[derive(Debug)]
struct Kept {
    index: u32,
    cost: usize,
    message: Value,
}

impl FairMessages {
    /// Adds the next message.
    pub(super) fn add(&mut self, read: Read) {
        self.count = self.count.saturating_add(1);
        self.left_out = self.left_out.saturating_add(u32::from(!read.is_whole));
        let cost = read.cost.bytes + read.cost.values * COST_OF_VALUE + COST_OF_MESSAGE;
        let kept = Kept { index: self.count, cost, message: read.value };
        let author = self.by_author.entry(author_of(&kept.message)).or_default();
        author.messages.push_back(kept);
        author.cost += cost;
        self.cost += cost;
        while self.cost > MAX_COST {
            self.drop_one();
        }
    }

    /// Counts one that could not be read.
    pub(super) fn leave_out(&mut self) {
        self.left_out = self.left_out.saturating_add(1);
    }

    /// The messages that were kept, in their order, and how many were not.
    pub(super) fn finish(self) -> (Vec<Value>, u32) {
        let mut kept: Vec<Kept> = self.by_author.into_values().flat_map(|author| author.messages).collect();
        kept.sort_by_key(|kept| kept.index);
        (kept.into_iter().map(|kept| kept.message).collect(), self.left_out)
    }

    fn drop_one(&mut self) {
        let largest = self.by_author.iter().max_by_key(|(_, author)| author.cost);
        let Some(name) = largest.map(|(name, _)| name.clone()) else {
            self.cost = 0;
            return;
        };
        if let Some(author) = self.by_author.get_mut(&name)
            && let Some(dropped) = author.messages.pop_front()
        {
            author.cost -= dropped.cost;
            self.cost -= dropped.cost;
            self.left_out = self.left_out.saturating_add(1);
            if !author.messages.is_empty() {
                return;
            }
        }
        self.by_author.remove(&name);
    }
}

/// Who posted a message; all that name nobody are one.
fn author_of(message: &Value) -> String {
    let message = message.get("message").unwrap_or(message);
    let id = message.get("actor_id").or_else(|| message.get("actor")?.get("id"));
    id.map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::lenient::{Budget, read};
    use super::*;

    fn add(messages: &mut FairMessages, message: &Value) {
        let budget = Budget { bytes: 1 << 20, values: 1 << 10 };
        messages.add(read(message.to_string().as_bytes(), budget, None).expect("JSON"));
    }

    #[test]
    fn a_flood_by_one_author_hides_no_other() {
        for honest_at in [0, 5_000, 9_999] {
            let mut messages = FairMessages::default();
            for n in 0..10_000 {
                if n == honest_at {
                    add(&mut messages, &json!({"actor_id": "b", "parts": ["I am here"]}));
                }
                add(&mut messages, &json!({"actor_id": "c", "parts": [n]}));
            }
            assert!(messages.cost <= MAX_COST);
            let (kept, left_out) = messages.finish();
            assert!(kept.iter().any(|message| message["actor_id"] == "b"), "{honest_at}");
            assert_eq!(kept.last().expect("one")["parts"][0], 9_999);
            assert_eq!(kept.len() + usize::try_from(left_out).expect("small"), 10_001);
        }
    }

    #[test]
    fn a_message_larger_than_the_bound_is_not_kept() {
        let mut messages = FairMessages::default();
        add(&mut messages, &json!({"actor_id": "b", "parts": ["x".repeat(MAX_COST)]}));
        add(&mut messages, &json!({"actor_id": "b"}));
        assert_eq!(messages.finish(), (vec![json!({"actor_id": "b"})], 1));
    }
}
