//! `touchline explain KEY`: what a key of the configuration does, without a configuration.

use std::{io::Write, process::ExitCode};

use super::{
    Form, Look,
    page::{Page, Paint},
};
use crate::{
    cli::file::USAGE,
    config::{self, KeyDoc},
};

/// True for a text that names a key rather than a URL: URLs have a slash, or are the `*` of OPTIONS.
pub(super) fn is_key(text: &str) -> bool {
    !text.contains('/') && text != "*"
}

/// Explains a key.
pub(super) fn explain(
    key: &str,
    form: Form,
    look: Look,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let doc = match config::describe_key(key) {
        Ok(doc) => doc,
        Err(error) => {
            let hint = error.hint.map_or_else(String::new, |hint| format!("; {hint}"));
            writeln!(err, "touchline: {}{hint} (a URL has a / in it)", error.message)?;
            return Ok(ExitCode::from(USAGE));
        }
    };
    match form {
        Form::Text => out.write_all(text(&doc, look).as_bytes())?,
        Form::Json => {
            serde_json::to_writer_pretty(&mut *out, &doc)?;
            writeln!(out)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn text(doc: &KeyDoc, look: Look) -> String {
    let mut page = Page::new(look.columns, look.has_colour);
    page.line(&doc.key, Paint::Strong);
    page.line("", Paint::Plain);
    page.row("what it does", &doc.meaning, "");
    page.row("type", &doc.kind, "");
    if let Some(form) = doc.form {
        page.row("written as", form, "");
    }
    if let Some(range) = &doc.range {
        page.row("range", range, "");
    }
    match &doc.default {
        _ if doc.is_required => page.painted_row("default", ("none, it has to be written", Paint::Warn), ""),
        Some(default) => page.row("default", default, ""),
        None => {}
    }
    let applied = match () {
        () if doc.is_plane() => "to add or to remove it takes a restart; its keys say for themselves",
        () if doc.needs_restart => "with a restart",
        () => "to a running touchline",
    };
    page.row("a change is applied", applied, "");
    let is_told = doc.words.iter().any(|word| !word.meaning.is_empty());
    if is_told {
        page.section("Values", "");
        for word in &doc.words {
            page.row(&word.word, &word.meaning, "");
        }
    } else if !doc.words.is_empty() {
        let words: Vec<&str> = doc.words.iter().map(|word| word.word.as_str()).collect();
        page.row("values", &words.join(", "), "");
    }
    if !doc.keys.is_empty() {
        page.section("Keys", "");
        for line in &doc.keys {
            page.row(&line.name, &line.meaning, "");
        }
    }
    page.finish()
}

#[cfg(test)]
mod tests {
    use std::process::ExitCode;

    use super::{Form, Look, explain, is_key};

    fn asked(key: &str, form: Form) -> (ExitCode, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let look = Look { columns: 100, has_colour: false };
        let code = explain(key, form, look, &mut out, &mut err).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_page_says_all_about_a_key() {
        let (code, page, _) = asked("cache.memory.size", Form::Text);

        assert_eq!(code, ExitCode::SUCCESS);
        for (label, value) in [
            ("type", "size"),
            ("default", "64MiB"),
            ("a change is applied", "with a restart"),
            ("written as", "a whole number and B"),
        ] {
            assert!(
                page.lines().any(|line| line.trim().starts_with(label) && line.contains(value)),
                "{label}\n{page}"
            );
        }
        let (_, page, _) = asked("cache.mode", Form::Text);
        assert!(page.contains("\nValues\n") && page.contains("to a running touchline"), "{page}");
        assert!(asked("ingress", Form::Text).1.contains("\nKeys\n"));
        let (_, json, _) = asked("ingress.backend", Form::Json);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["is_required"], true);
    }

    #[test]
    fn an_unknown_key_is_one_sentence_and_exit_code_2() {
        let (code, out, err) = asked("cache.memroy", Form::Text);

        assert_eq!((code, out.as_str(), err.lines().count()), (ExitCode::from(2), "", 1));
        assert!(err.contains("unknown key `cache.memroy`; did you mean `cache.memory`?"), "{err}");
    }

    #[test]
    fn a_url_is_no_key() {
        for text in ["/api/a", "http://coach.example", "*", "coach.example/a"] {
            assert!(!is_key(text), "{text}");
        }
        assert!(is_key("cache.memory.size"));
    }
}
