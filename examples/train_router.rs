//! Trains the router's model: reads `data/router/*.jsonl`, writes `src/claude/classify/weights.bin`. The same data give
//! the same bytes.
//!
//! `cargo run --release --example train_router -- [DATA_FOLDER] [WEIGHTS_FILE]`

use std::error::Error;
use std::path::{Path, PathBuf};

use touchline::claude::classify::items::{Item, data_hash};
use touchline::claude::classify::train::{Recipe, weights_of};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = arguments.next().map_or_else(|| root.join("data/router"), PathBuf::from);
    let output = arguments.next().map_or_else(|| root.join("src/claude/classify/weights.bin"), PathBuf::from);

    let files = read_folder(&folder)?;
    let mut items = Vec::new();
    for (name, content) in &files {
        items.extend(Item::parse_all(content).map_err(|error| format!("{name}: {error}"))?);
    }
    let bytes = weights_of(&items, Recipe::default(), data_hash(&files))?;
    std::fs::write(&output, bytes)?;
    Ok(())
}

/// The names and contents of the labelled files, by name.
fn read_folder(folder: &Path) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push((name, std::fs::read_to_string(&path)?));
        }
    }
    files.sort();
    Ok(files)
}
