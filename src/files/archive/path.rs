//! Which paths and links an archive may hold.

/// The longest path in an archive, bytes: what systems take in one call.
pub(in crate::files) const MAX_PATH_LEN: usize = 4096;

/// The most parts of a path: far more than trees that people make have, and few enough that a handle to each
/// folder on the way can be open.
pub(in crate::files) const MAX_DEPTH: usize = 64;

/// What is wrong with a path, in words that follow it.
pub(in crate::files) fn flaw_of_path(path: &str) -> Option<&'static str> {
    let parts = path.strip_suffix('/').unwrap_or(path).split('/');
    match path {
        _ if path.len() > MAX_PATH_LEN => Some("is longer than 4096 bytes"),
        _ if path.contains('\0') => Some("has a zero byte in its name"),
        _ if path.starts_with('/') => Some("is no relative path"),
        _ if parts.clone().any(str::is_empty) => Some("has a part without a name"),
        _ if parts.clone().any(|part| part == "." || part == "..") => Some("leads outside the folder"),
        _ if parts.count() > MAX_DEPTH => Some("is more than 64 folders deep"),
        _ => None,
    }
}

/// Whether a link that stands `depth` folders below the topmost one leads to something inside that, whatever
/// other links of the same kind it passes.
///
/// A step up after a step down would be one up from wherever a link on the way leads, so steps up may only
/// come first: those go from folder to folder, of which none is a link.
pub(in crate::files) fn stays_inside(depth: usize, target: &str) -> bool {
    if target.is_empty() || target.len() > MAX_PATH_LEN || target.starts_with('/') || target.contains('\0') {
        return false;
    }
    let (mut up, mut down) = (0, false);
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if down => return false,
            ".." => up += 1,
            _ => down = true,
        }
    }
    up <= depth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_relative_and_has_nothing_but_names() {
        for path in
            ["a", "a/", "a/b", "a/b/", "...", "a/ä b/..c", "a\\b", &"x/".repeat(64), &"y".repeat(4096)]
        {
            assert_eq!(flaw_of_path(path), None, "{path}");
        }
        for path in [
            "",
            "/",
            "/a",
            "a//b",
            "a//",
            ".",
            "..",
            "./a",
            "../a",
            "a/../b",
            "a/..",
            "a/./b",
            "a\0b",
            &"x/".repeat(65),
            &"y".repeat(4097),
        ] {
            assert!(flaw_of_path(path).is_some(), "{path}");
        }
    }

    #[test]
    fn a_link_may_lead_up_to_the_topmost_folder_and_no_further() {
        for (depth, target) in
            [(0, "a"), (0, "."), (0, "./a/b"), (1, "../a"), (2, "../../a"), (2, "../.."), (0, "a/")]
        {
            assert!(stays_inside(depth, target), "{depth} {target}");
        }
        for (depth, target) in
            [(0, ""), (0, ".."), (1, "../.."), (0, "/a"), (9, "/"), (9, "a/../b"), (9, "./a/.."), (0, "a\0")]
        {
            assert!(!stays_inside(depth, target), "{depth} {target}");
        }
    }
}
