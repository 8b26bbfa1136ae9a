//! `touchline completions` and `touchline man`: what shells and `man` know about the commands, made from the commands.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

/// Arguments of `touchline completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  touchline completions bash > /etc/bash_completion.d/touchline
  touchline completions zsh > \"${fpath[1]}/_touchline\"
  touchline completions fish > ~/.config/fish/completions/touchline.fish
  source <(touchline completions bash)           for this shell alone")]
pub(crate) struct CompletionsArguments {
    /// The shell to complete for
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Arguments of `touchline man`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  touchline man | man -l -
  touchline man --dir /usr/local/share/man/man1")]
pub(crate) struct ManArguments {
    /// Write a page for touchline and one for each command into this folder, in place of the first to standard output
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the completions of a shell.
pub(crate) fn completions(
    arguments: &CompletionsArguments,
    mut command: Command,
    out: &mut dyn Write,
) -> io::Result<()> {
    let name = command.get_name().to_owned();
    // A generator ends the process when it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    out.write_all(&script)
}

/// Prints the manual page, or writes those of all commands.
pub(crate) fn man(arguments: &ManArguments, command: Command, out: &mut dyn Write) -> anyhow::Result<()> {
    let Some(folder) = &arguments.dir else {
        Man::new(command.disable_help_subcommand(true)).render(&mut *out)?;
        return Ok(());
    };
    let writing = || format!("writing manual pages to {}", folder.display());
    fs::create_dir_all(folder).with_context(writing)?;
    clap_mangen::generate_to(command, folder).with_context(writing)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::{CommandFactory as _, ValueEnum as _};
    use clap_complete::Shell;

    use super::{CompletionsArguments, ManArguments, completions, man};
    use crate::cli::CommandLine;

    #[test]
    fn every_shell_learns_every_command() {
        let commands: Vec<String> =
            CommandLine::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
        assert!(commands.len() > 15, "{commands:?}");
        for shell in Shell::value_variants() {
            let mut out = Vec::new();

            completions(&CompletionsArguments { shell: *shell }, CommandLine::command(), &mut out).unwrap();

            let script = String::from_utf8(out).unwrap();
            for command in &commands {
                assert!(script.contains(command.as_str()), "{shell} does not know {command}");
            }
            assert!(script.contains("--effective") || script.contains("effective"), "{shell}");
        }
    }

    #[test]
    fn there_is_a_page_for_every_command_and_every_command_below_one() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("man1");

        man(&ManArguments { dir: Some(dir.clone()) }, CommandLine::command(), &mut Vec::new()).unwrap();

        for name in ["touchline", "touchline-check", "touchline-explain-router", "touchline-routes-test"] {
            let page = fs::read_to_string(dir.join(format!("{name}.1"))).unwrap();
            assert!(page.contains(".TH ") && page.contains(".SH SYNOPSIS"), "{name}: {page}");
        }
        assert!(!dir.join("touchline-help.1").exists());
        let mut out = Vec::new();
        man(&ManArguments { dir: None }, CommandLine::command(), &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("touchline"));
    }
}
