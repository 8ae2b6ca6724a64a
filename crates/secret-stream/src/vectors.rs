//! The golden cases of `tests/vectors/connect.json`, for this crate's tests.

use serde_json::Value;

/// One case: `inputs`, `hex` and whatever else it has, as JSON.
pub(crate) struct Case {
    pub(crate) value: Value,
}

impl Case {
    pub(crate) fn load(id: &str) -> Self {
        let all: Value = serde_json::from_str(include_str!("../../../tests/vectors/connect.json")).unwrap();
        let value = all["cases"].as_array().unwrap().iter().find(|case| case["id"] == id);
        Self { value: value.unwrap_or_else(|| panic!("no case {id}")).clone() }
    }

    /// Bytes of a hex input.
    pub(crate) fn input(&self, name: &str) -> Vec<u8> {
        bytes(&self.value["inputs"][name])
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.value["inputs"][name].as_str().unwrap()
    }

    /// Bytes of a named hex result.
    pub(crate) fn hex(&self, name: &str) -> Vec<u8> {
        bytes(&self.value["hex"][name])
    }
}

/// Bytes of a JSON string of hex digits.
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap_or_else(|| panic!("no hex: {value}"))).unwrap()
}

/// Array of a JSON string of hex digits.
pub(crate) fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}
