//! What the environment says of proxies and certificates.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The variables that name proxies, as other programs read them: in lower case first, as curl and Node.js do.
const PROXIES: [[&str; 2]; 3] =
    [["http_proxy", "HTTP_PROXY"], ["https_proxy", "HTTPS_PROXY"], ["all_proxy", "ALL_PROXY"]];
/// Those that name what is reached without one.
const NO_PROXY: [&str; 2] = ["no_proxy", "NO_PROXY"];
/// Set where a web server runs this program: then `HTTP_PROXY` is what a client said in a header.
const CGI: &str = "REQUEST_METHOD";

/// What the environment says of the way to servers of the web.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct WebSettings {
    /// For `http`, for `https`, and for both.
    pub(super) proxies: [Option<NamedProxy>; 3],
    /// Hosts, domains and networks without a proxy, with commas.
    pub(super) no_proxy: String,
    /// A file of certificate authorities that are trusted besides the system's, in PEM; it must be readable.
    pub(super) ca: Option<PathBuf>,
    /// The same as Node.js has it: where it can't be read it is left out, as there.
    pub(super) node_extra_ca: Option<PathBuf>,
}

/// A proxy as a variable names it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct NamedProxy {
    pub(super) variable: &'static str,
    /// As it stands there; it may hold a password.
    pub(super) value: String,
}

impl WebSettings {
    /// Reads the environment's variables; `ca` is named by an option.
    pub fn new(vars: &HashMap<String, String>, ca: Option<PathBuf>) -> Self {
        let is_cgi = vars.contains_key(CGI);
        let first = |names: [&'static str; 2]| {
            let mut named = names.into_iter().filter(|name| !(is_cgi && *name == "HTTP_PROXY"));
            named.find_map(|variable| {
                let value = vars.get(variable)?.trim();
                (!value.is_empty()).then(|| NamedProxy { variable, value: value.to_owned() })
            })
        };
        Self {
            proxies: PROXIES.map(first),
            no_proxy: first(NO_PROXY).map(|named| named.value).unwrap_or_default(),
            ca,
            node_extra_ca: vars.get("NODE_EXTRA_CA_CERTS").filter(|path| !path.is_empty()).map(PathBuf::from),
        }
    }

    /// The file of certificate authorities that an option or a setting of ours names.
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// Whether a variable counts here.
    pub(crate) fn reads(variable: &str) -> bool {
        let mut names = PROXIES.iter().flatten().chain(&NO_PROXY);
        names.any(|name| *name == variable) || matches!(variable, CGI | "NODE_EXTRA_CA_CERTS")
    }
}

impl fmt::Debug for WebSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSettings")
            .field("proxies", &self.proxies)
            .field("no_proxy", &self.no_proxy)
            .field("ca", &self.ca)
            .field("node_extra_ca", &self.node_extra_ca)
            .finish()
    }
}

impl fmt::Debug for NamedProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the value, which may hold a password.
        f.debug_tuple("NamedProxy").field(&self.variable).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> WebSettings {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        WebSettings::new(&vars, None)
    }

    fn named(settings: &WebSettings) -> [Option<(&'static str, &str)>; 3] {
        settings.proxies.each_ref().map(|proxy| proxy.as_ref().map(|it| (it.variable, it.value.as_str())))
    }

    #[test]
    fn lower_case_comes_first_and_what_is_empty_says_nothing() {
        let settings = read(&[
            ("HTTPS_PROXY", "upper:1"),
            ("https_proxy", "lower:1"),
            ("http_proxy", " "),
            ("HTTP_PROXY", " http://h:2 "),
            ("NO_PROXY", "a,b"),
        ]);
        let expected = [Some(("HTTP_PROXY", "http://h:2")), Some(("https_proxy", "lower:1")), None];
        assert_eq!(named(&settings), expected);
        assert_eq!(settings.no_proxy, "a,b");
    }

    #[test]
    fn a_clients_header_names_no_proxy() {
        let settings = read(&[("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "evil:1"), ("ALL_PROXY", "all:1")]);
        assert_eq!(named(&settings), [None, None, Some(("ALL_PROXY", "all:1"))]);
    }

    #[test]
    fn passwords_are_not_in_debug_output() {
        let settings = read(&[("HTTPS_PROXY", "http://me:hush@proxy:3128")]);
        assert!(!format!("{settings:?}").contains("hush"));
        assert!(WebSettings::reads("all_proxy") && !WebSettings::reads("PATH"));
    }
}
