//! From which byte on a receiver wants the file.

use serde::{Deserialize, Serialize};

use super::{Fault, FrameType, encode};

/// The payload of RESUME, as JSON. Keys that are not known are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Resume {
    /// Bytes of the file that the receiver has.
    pub(super) offset: u64,
}

impl Resume {
    /// The RESUME frame.
    pub(super) fn encode(self) -> Vec<u8> {
        // A structure of numbers can always be written.
        encode(FrameType::Resume, &serde_json::to_vec(&self).unwrap_or_default())
    }

    /// Reads the payload of a RESUME frame that is about a file of `size` bytes.
    ///
    /// # Errors
    /// `BadResume` for what is not JSON of this shape, and for a place behind the file's end.
    pub(super) fn decode(payload: &[u8], size: u64) -> Result<Self, Fault> {
        match serde_json::from_slice::<Self>(payload) {
            Ok(resume) if resume.offset <= size => Ok(resume),
            _ => Err(Fault::BadResume { size }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_one_number() {
        let frame = Resume { offset: 1_048_576 }.encode();
        assert_eq!(frame, b"\x07\0\0\0\x12{\"offset\":1048576}");
        assert_eq!(Resume::decode(&frame[5..], 1_048_576), Ok(Resume { offset: 1_048_576 }));
        assert_eq!(Resume::decode(br#"{"later":[1],"offset":0}"#, 0), Ok(Resume { offset: 0 }));
        let longest = Resume { offset: u64::MAX }.encode();
        assert_eq!(Resume::decode(&longest[5..], u64::MAX), Ok(Resume { offset: u64::MAX }));
    }

    #[test]
    fn what_is_no_place_in_the_file_is_refused() {
        let deep = format!(r#"{{"x":{}"#, "[".repeat(200));
        for payload in [
            "",
            "{}",
            "7",
            "null",
            r#"{"offset":11}"#,
            r#"{"offset":-1}"#,
            r#"{"offset":1.5}"#,
            r#"{"offset":"1"}"#,
            r#"{"offset":18446744073709551616}"#,
            &deep,
        ] {
            assert_eq!(
                Resume::decode(payload.as_bytes(), 10),
                Err(Fault::BadResume { size: 10 }),
                "{payload}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_payload_is_read_or_refused(payload in prop::collection::vec(any::<u8>(), 0..100), size: u64) {
            if let Ok(resume) = Resume::decode(&payload, size) {
                prop_assert!(resume.offset <= size);
            }
        }
    }
}
