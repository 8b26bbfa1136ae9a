//! Trains the router's model: reads `data/router/*.jsonl`, writes `src/claude/classify/weights.bin`. The same data give
//! the same bytes.
//!
//! `cargo run --release --example train_router -- [DATA_FOLDER] [WEIGHTS_FILE]`
//!
//! With `--authors-left-out [DATA_FOLDER]` it writes nothing, and judges how the recipe does on authors whom it has not seen.

use std::{
    error::Error,
    io::Write,
    path::{Path, PathBuf},
};

use touchline::claude::classify::{
    evaluate::Bars,
    items::{Item, data_hash},
    train::{Recipe, authors_left_out, weights_of},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let judges = arguments.next_if(|argument| argument == "--authors-left-out").is_some();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = arguments.next().map_or_else(|| root.join("data/router"), PathBuf::from);
    let output = arguments.next().map_or_else(|| root.join("src/claude/classify/weights.bin"), PathBuf::from);

    let files = read_folder(&folder)?;
    let mut items = Vec::new();
    for (name, content) in &files {
        items.extend(Item::parse_all(content).map_err(|error| format!("{name}: {error}"))?);
    }
    if judges {
        let mut out = std::io::stdout();
        let report = authors_left_out(&items, Recipe::default(), |author, right| {
            let share = right.ratio() * 100.0;
            let _ = writeln!(out, "without author {author:<2}   {share:.1} % of {} items", right.items);
        })?;
        writeln!(out, "{:<18}  {}", "items", report.items())?;
        for (name, figure) in report.figures(Bars::default()) {
            writeln!(out, "{name:<18}  {figure}")?;
        }
        return Ok(());
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
