//! The files of the page, which are part of the program.

use std::sync::LazyLock;

use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};

use crate::error::Refusal;

/// A file.
#[derive(Debug)]
pub(super) struct Asset {
    /// Where it is.
    pub(super) path: &'static str,
    media_type: &'static str,
    content: &'static str,
    tag: LazyLock<String>,
}

/// A file of the folder `page`, with its path beneath `/page/`.
macro_rules! asset {
    ($name:literal, $media_type:expr) => {
        asset!(concat!("/page/", $name), $name, $media_type)
    };
    ($path:expr, $name:literal, $media_type:expr) => {
        Asset {
            path: $path,
            media_type: $media_type,
            content: include_str!(concat!("../../../page/", $name)),
            tag: LazyLock::new(|| tag(include_str!(concat!("../../../page/", $name)))),
        }
    };
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// The page itself.
static INDEX: Asset = asset!("/", "index.html", HTML);

/// What it is made of besides.
pub(super) static ASSETS: [Asset; 9] = [
    asset!("app.js", SCRIPT),
    asset!("calls.js", SCRIPT),
    asset!("chart.js", SCRIPT),
    asset!("elements.js", SCRIPT),
    asset!("live.js", SCRIPT),
    asset!("table.js", SCRIPT),
    asset!("trail.js", SCRIPT),
    asset!("style.css", STYLE),
    asset!("icon.svg", IMAGE),
];

impl Asset {
    /// The file, or that it is still the one that the browser has.
    pub(super) fn answer(&self, headers: &HeaderMap) -> Response {
        let tag = HeaderValue::from_str(&self.tag).unwrap_or_else(|_| HeaderValue::from_static("\"\""));
        let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let is_known = known.flat_map(|value| value.split(',')).any(|known| {
            let known = known.trim();
            known.strip_prefix("W/").unwrap_or(known) == self.tag.as_str()
        });
        // The browser keeps it, and asks each time: a new version of the hub has a new page at once.
        let always = [(ETAG, tag), (CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
        if is_known {
            return (StatusCode::NOT_MODIFIED, always).into_response();
        }
        (always, [(CONTENT_TYPE, self.media_type)], self.content).into_response()
    }
}

/// The page, for a browser. Others are told that there is nothing at this path, as ever.
pub(super) async fn index(headers: HeaderMap) -> Response {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let is_browser = accepted.flat_map(|value| value.split(',')).any(|item| {
        let media_type = item.split(';').next().unwrap_or_default().trim();
        media_type.eq_ignore_ascii_case("text/html")
    });
    let mut response = match is_browser {
        true => INDEX.answer(&headers),
        false => Refusal::not_found("there is nothing at this path but a page for browsers").into_response(),
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    response
}

fn tag(content: &str) -> String {
    let digest = hex::encode(Sha256::digest(content));
    format!("\"{}\"", digest.get(..16).unwrap_or_default())
}
