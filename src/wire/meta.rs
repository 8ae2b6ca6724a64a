//! The metadata that opens a transfer.

use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use super::{Fault, FrameType, encode};

/// What a transfer says it carries: the payload of META, as JSON.
///
/// Keys that are not known are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The file's name as offered: not a path, and not safe to print.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the content, lower-case hex.
    pub hash: String,
    /// The transfer's id; only peers of ours say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer_id: Option<String>,
    /// Whether the sender waits for RESUME before it sends the first byte; only peers of ours do, and only
    /// with peers that know it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub resume: bool,
}

impl Meta {
    /// The META frame.
    ///
    /// # Errors
    /// `TooLong` where it does not fit one: a name or an id of tens of thousands of bytes.
    pub fn encode(&self) -> Result<Vec<u8>, Fault> {
        let json = serde_json::to_vec(self).map_err(|_| Fault::BadMeta("it can't be written as JSON"))?;
        if json.len() > FrameType::Meta.limit() {
            let len = u32::try_from(json.len()).unwrap_or(u32::MAX);
            return Err(Fault::TooLong { kind: FrameType::Meta, len });
        }
        Ok(encode(FrameType::Meta, &json))
    }

    /// Reads the payload of a META frame.
    ///
    /// # Errors
    /// `BadMeta` for what is not JSON, nests deeper than JSON of this shape ever does, lacks a field, or
    /// has a size that is not a whole number of bytes below 2^64.
    pub fn decode(payload: &[u8]) -> Result<Self, Fault> {
        // The library's own sentence would quote what the peer sent.
        serde_json::from_slice(payload).map_err(|error| match error.classify() {
            Category::Data => Fault::BadMeta("a field is missing or not of its type"),
            Category::Syntax | Category::Eof | Category::Io => Fault::BadMeta("it is not JSON"),
        })
    }

    /// Whether `announced` is what was offered in `self`.
    ///
    /// # Errors
    /// `MetaDiffers`, naming the first field that does. Transfer ids are compared where both have one;
    /// `resume` is no part of the offer.
    pub fn check(&self, announced: &Self) -> Result<(), Fault> {
        let ids_differ = match (&self.transfer_id, &announced.transfer_id) {
            (Some(ours), Some(theirs)) => ours != theirs,
            _ => false,
        };
        let field = if self.name != announced.name {
            "name"
        } else if self.size != announced.size {
            "size"
        } else if self.hash != announced.hash {
            "hash"
        } else if ids_differ {
            "transfer id"
        } else {
            return Ok(());
        };
        Err(Fault::MetaDiffers { field })
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn meta() -> Meta {
        Meta { name: "a.txt".into(), size: 3, hash: HASH.into(), transfer_id: None, resume: false }
    }

    #[test]
    fn encodes_as_an_original_does() {
        let json = format!(r#"{{"name":"a.txt","size":3,"hash":"{HASH}"}}"#);
        let frame = meta().encode().expect("fits");
        assert_eq!(frame[..5], [1, 0, 0, 0, 99]);
        assert_eq!(frame[5..], *json.as_bytes());
        assert_eq!(Meta::decode(json.as_bytes()), Ok(meta()));
    }

    #[test]
    fn unknown_keys_are_ignored_and_the_transfer_id_is_read() {
        let json = format!(r#"{{"size":3,"x":[{{}}],"hash":"{HASH}","transfer_id":"t","name":"a.txt"}}"#);
        let expected = Meta { transfer_id: Some("t".into()), ..meta() };
        assert_eq!(Meta::decode(json.as_bytes()), Ok(expected.clone()));
        assert_eq!(meta().check(&expected), Ok(()));
        let other = Meta { transfer_id: Some("u".into()), ..meta() };
        assert_eq!(other.check(&expected), Err(Fault::MetaDiffers { field: "transfer id" }));
    }

    #[test]
    fn resume_is_asked_for_in_so_many_words_and_is_no_part_of_the_offer() {
        let asking = Meta { resume: true, ..meta() };
        let json = format!(r#"{{"name":"a.txt","size":3,"hash":"{HASH}","resume":true}}"#);
        assert_eq!(asking.encode().expect("fits")[5..], *json.as_bytes());
        assert_eq!(Meta::decode(json.as_bytes()), Ok(asking.clone()));
        assert_eq!(meta().check(&asking), Ok(()));
        let not_so = json.replace("true", "1");
        assert!(matches!(Meta::decode(not_so.as_bytes()), Err(Fault::BadMeta(_))));
    }

    #[test]
    fn sizes_that_are_no_number_of_bytes_are_refused() {
        for size in ["-1", "1.5", "\"3\"", "null", "18446744073709551616", "1e3", "true", "[]"] {
            let json = format!(r#"{{"name":"a","size":{size},"hash":"{HASH}"}}"#);
            assert!(matches!(Meta::decode(json.as_bytes()), Err(Fault::BadMeta(_))), "{size}");
        }
        let json = format!(r#"{{"name":"a","size":18446744073709551615,"hash":"{HASH}"}}"#);
        assert_eq!(Meta::decode(json.as_bytes()).map(|meta| meta.size), Ok(u64::MAX));
    }

    #[test]
    fn json_nested_deeply_is_refused_and_does_not_overflow_the_stack() {
        let json = format!(r#"{{"x":{}"#, "[".repeat(60_000));
        assert!(matches!(Meta::decode(json.as_bytes()), Err(Fault::BadMeta(_))));
    }

    #[test]
    fn every_field_must_be_as_offered() {
        let differs = |announced: Meta| meta().check(&announced);
        assert_eq!(differs(meta()), Ok(()));
        assert_eq!(
            differs(Meta { name: "b.txt".into(), ..meta() }),
            Err(Fault::MetaDiffers { field: "name" })
        );
        assert_eq!(differs(Meta { size: 4, ..meta() }), Err(Fault::MetaDiffers { field: "size" }));
        let upper = Meta { hash: HASH.to_uppercase(), ..meta() };
        assert_eq!(differs(upper), Err(Fault::MetaDiffers { field: "hash" }));
    }

    proptest! {
        #[test]
        fn any_payload_is_read_or_refused(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Meta::decode(&payload);
        }

        #[test]
        fn what_is_encoded_reads_the_same(name in any::<String>(), size in any::<u64>()) {
            let meta = Meta { name, size, ..meta() };
            prop_assert_eq!(Meta::decode(&meta.encode().expect("fits")[5..]), Ok(meta));
        }
    }
}
