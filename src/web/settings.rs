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

    /// The settings that variables decide, each with the variable that did and its value. Nothing in it is a
    /// secret: names and passwords of proxies are masked.
    #[cfg(any(test, feature = "binding"))]
    pub(crate) fn shown(&self) -> Vec<(&'static str, Option<&'static str>, Option<String>)> {
        let proxies = ["httpProxy", "httpsProxy", "allProxy"].into_iter().zip(&self.proxies);
        let proxies = proxies.map(|(name, named)| {
            (name, named.as_ref().map(|named| named.variable), named.as_ref().map(NamedProxy::masked))
        });
        let set = |name, variable, value: Option<String>| (name, value.as_ref().map(|_| variable), value);
        let extra = self.node_extra_ca.as_ref().map(|path| path.to_string_lossy().into_owned());
        let no_proxy = Some(self.no_proxy.clone()).filter(|text| !text.is_empty());
        let others = [set("noProxy", "NO_PROXY", no_proxy), set("extraCa", "NODE_EXTRA_CA_CERTS", extra)];
        proxies.chain(others).collect()
    }

    /// Whether a variable counts here.
    pub(crate) fn reads(variable: &str) -> bool {
        let mut names = PROXIES.iter().flatten().chain(&NO_PROXY);
        names.any(|name| *name == variable) || matches!(variable, CGI | "NODE_EXTRA_CA_CERTS")
    }
}

impl NamedProxy {
    /// What it says, without name and password; those may hold an `@` themselves.
    #[cfg(any(test, feature = "binding"))]
    fn masked(&self) -> String {
        let (scheme, rest) = self.value.split_once("://").map_or((None, &*self.value), |(s, r)| (Some(s), r));
        let rest = rest.rsplit_once('@').map_or(rest.to_owned(), |(_, place)| format!("(secret)@{place}"));
        scheme.map_or(rest.clone(), |scheme| format!("{scheme}://{rest}"))
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
    fn what_is_shown_names_its_variable_and_no_password() {
        let settings = read(&[("HTTPS_PROXY", "http://me:hu@sh@proxy:3128"), ("all_proxy", "me:hush@all:1")]);
        let shown = settings.shown();
        assert!(!format!("{shown:?}").contains("sh@proxy") && !format!("{shown:?}").contains("hush"));
        let [http, https, all, none, extra] = &*shown else { panic!("five settings") };
        assert_eq!(*http, ("httpProxy", None, None));
        assert_eq!(*https, ("httpsProxy", Some("HTTPS_PROXY"), Some("http://(secret)@proxy:3128".into())));
        assert_eq!(*all, ("allProxy", Some("all_proxy"), Some("(secret)@all:1".into())));
        assert_eq!((none, extra), (&("noProxy", None, None), &("extraCa", None, None)));
    }

    #[test]
    fn passwords_are_not_in_debug_output() {
        let settings = read(&[("HTTPS_PROXY", "http://me:hush@proxy:3128")]);
        assert!(!format!("{settings:?}").contains("hush"));
        assert!(WebSettings::reads("all_proxy") && !WebSettings::reads("PATH"));
    }
}
