//! Every command shows how it is used, in lines that it understands.

use clap::{Command, CommandFactory as _, Parser as _};

use super::CommandLine;

/// All commands with the words that lead to them.
fn walk(command: &Command, words: &[String], found: &mut Vec<(Vec<String>, String)>) {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    found.push((words.to_vec(), help));
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        walk(below, &[words, &[below.get_name().to_owned()]].concat(), found);
    }
}

/// The lines of an `Examples:` block.
fn examples(help: &str) -> Vec<&str> {
    let block = help.split_once("Examples:\n").map_or("", |(_, block)| block);
    block.split("\n\n").next().unwrap_or_default().lines().map(str::trim).collect()
}

/// The words of the call of touchline in a line as a shell would read it; none for a line that calls something else.
fn call(line: &str) -> Option<Vec<String>> {
    let start = if line.starts_with("touchline ") { 0 } else { line.find("| touchline ")? + 2 };
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut spaces = 0;
    for c in line[start..].chars() {
        spaces = if c == ' ' && quote.is_none() { spaces + 1 } else { 0 };
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            // Two spaces begin a remark.
            (None, ' ') if spaces == 2 => break,
            (None, ' ') => words.extend(word.take()),
            (None, '|' | '>' | ')' | '&' | ';' | '#') => break,
            _ => word.get_or_insert_default().push(c),
        }
    }
    assert!(quote.is_none(), "a quote is open in {line}");
    words.extend(word);
    Some(words)
}

#[test]
fn every_command_has_examples_that_it_understands() {
    let mut commands = Vec::new();
    walk(&CommandLine::command(), &[], &mut commands);
    assert!(commands.len() > 15);

    for (words, help) in commands {
        let calls: Vec<Vec<String>> = examples(&help).into_iter().filter_map(call).collect();

        assert!(!calls.is_empty(), "`touchline {}` shows no examples: {help:?}", words.join(" "));
        for call in calls {
            let line = call.join(" ");
            if let Err(error) = CommandLine::try_parse_from(&call) {
                panic!("`{line}` is not understood: {error}");
            }
            assert!(call[1..].starts_with(&words), "`{line}` is shown by `touchline {}`", words.join(" "));
        }
    }
}

#[test]
fn lines_are_read_as_a_shell_reads_them() {
    let words = |line| call(line).map(|words| words.join("|"));

    assert_eq!(words("touchline stat -o json | jq '.a'").as_deref(), Some("touchline|stat|-o|json"));
    assert_eq!(words("x --y | touchline check -").as_deref(), Some("touchline|check|-"));
    assert_eq!(words("touchline drain    a remark").as_deref(), Some("touchline|drain"));
    assert_eq!(words("touchline a 'b  c|d' \"\" >e").as_deref(), Some("touchline|a|b  c|d|"));
    assert_eq!(words("kubectl get pods"), None);
}

#[test]
fn the_definition_of_the_command_line_is_sound() {
    CommandLine::command().debug_assert();
}
