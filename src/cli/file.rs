//! The configuration that a command is given: a file, or standard input. And what an exit code says of it.

use std::{io::Read, path::Path};

use crate::config::{self, Loaded, Problems};

/// The exit code of a configuration with errors.
pub(super) const REFUSED: u8 = 1;

/// The exit code of a command line that is not understood, also where that shows only later.
pub(super) const USAGE: u8 = 2;

/// The file that is read when none is named.
pub(super) const USUAL: &str = "proxy.yaml";

/// What stands for standard input.
const STDIN: &str = "-";

/// What problems call standard input.
const STDIN_NAME: &str = "stdin";

/// A configuration that may be used, and the text that it came from.
pub(super) struct File {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) loaded: Loaded,
}

/// Reads and checks a configuration; `-` is read from `input`.
pub(super) fn open(path: &Path, input: &mut dyn Read) -> Result<File, Problems> {
    let is_input = path.as_os_str() == STDIN;
    let name = if is_input { STDIN_NAME.to_owned() } else { path.display().to_string() };
    let text = if is_input { config::read_input(&name, input)? } else { config::read_file(path)? };
    let loaded = config::load_str(&name, &text, &config::variable)?;
    Ok(File { name, text, loaded })
}
