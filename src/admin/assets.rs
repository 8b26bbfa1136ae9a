//! The script and the style sheet of the page, which are embedded as they were bundled from `dashboard/`.

use std::io::Write as _;
use std::sync::OnceLock;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

use crate::admin::answer::{Kind, Reply};

const SCRIPT: &[u8] = include_bytes!("dashboard/dist/dashboard.js");
const STYLE: &[u8] = include_bytes!("dashboard/dist/dashboard.css");

/// A file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asset {
    /// `/dashboard.js`.
    Script,
    /// `/dashboard.css`.
    Style,
}

/// A file as it is sent.
struct Packed {
    plain: &'static [u8],
    gzip: Bytes,
    tag: HeaderValue,
}

impl Packed {
    fn new(plain: &'static [u8]) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        // Writing to memory does not fail; without a packed form the plain one is sent.
        let gzip = encoder.write_all(plain).and_then(|()| encoder.finish()).unwrap_or_default();
        let hash = Sha256::digest(plain);
        let digits: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let tag =
            HeaderValue::try_from(format!("W/\"{digits}\"")).unwrap_or(HeaderValue::from_static("W/\"0\""));
        Self { plain, gzip: gzip.into(), tag }
    }
}

/// The files. They are packed when somebody first opens the page: most processes are never looked at.
#[derive(Default)]
pub(super) struct Assets(OnceLock<[Packed; 2]>);

impl Assets {
    /// The answer to a request for a file with these headers.
    pub(super) fn reply(&self, asset: Asset, headers: &HeaderMap) -> Reply {
        let [script, style] = self.0.get_or_init(|| [Packed::new(SCRIPT), Packed::new(STYLE)]);
        let (file, kind) = match asset {
            Asset::Script => (script, Kind::Script),
            Asset::Style => (style, Kind::Css),
        };
        // The tag is weak, as both codings have it (RFC 9110 section 8.8.3). The file may be kept, but is asked about: another version of this program has another one under the same name.
        let with_tag = |reply: Reply| {
            reply
                .with(header::ETAG, file.tag.clone())
                .with(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))
                .with(header::VARY, HeaderValue::from_static("accept-encoding"))
        };
        let is_known = headers
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|tag| tag.trim().as_bytes() == file.tag.as_bytes());
        if is_known {
            return with_tag(Reply::new(StatusCode::NOT_MODIFIED, kind, Bytes::new()));
        }
        let takes_gzip = headers
            .get_all(header::ACCEPT_ENCODING)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|coding| {
                matches!(coding.trim().split(';').map(str::trim).collect::<Vec<_>>()[..], ["gzip"])
            });
        if takes_gzip && !file.gzip.is_empty() {
            let reply = Reply::new(StatusCode::OK, kind, file.gzip.clone());
            return with_tag(reply).with(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        with_tag(Reply::new(StatusCode::OK, kind, Bytes::from_static(file.plain)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use flate2::{Compression, write::GzEncoder};
    use sha2::{Digest as _, Sha256};

    use super::{SCRIPT, STYLE};

    /// What the head of `build.mjs` says.
    fn hash_of_sources(folder: &Path) -> String {
        let mut paths: Vec<String> =
            ["build.mjs", "package-lock.json", "package.json", "style.css"].map(str::to_owned).to_vec();
        for entry in std::fs::read_dir(folder.join("src")).unwrap() {
            paths.push(format!("src/{}", entry.unwrap().file_name().to_str().unwrap()));
        }
        paths.sort();
        let mut hash = Sha256::new();
        for path in paths {
            hash.update(path.as_bytes());
            hash.update([0]);
            hash.update(std::fs::read(folder.join(&path)).unwrap());
            hash.update([0]);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_bundle_was_made_from_the_sources() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/dashboard");

        let recorded = std::fs::read_to_string(folder.join("dist/sources.sha256")).unwrap();

        assert_eq!(
            recorded.trim(),
            hash_of_sources(&folder),
            "run `make dashboard` and commit what it wrote"
        );
    }

    #[test]
    fn the_page_weighs_little() {
        let packed = |bytes: &[u8]| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            std::io::Write::write_all(&mut encoder, bytes).unwrap();
            encoder.finish().unwrap().len()
        };

        assert!(packed(SCRIPT) + packed(STYLE) <= 60_000);
    }
}
