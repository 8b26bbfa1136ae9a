//! `touchline probe`: is there a good answer at a URL? For exec probes, hooks and tests in images without a shell or curl.

use std::{
    io::{ErrorKind, Result, Write},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use http::Uri;
use tokio::time::{Instant, sleep, timeout};

use super::client::{Call, ask_status};
use crate::config;

/// How long one try may take, its lookup of the name included.
const TRY: Duration = Duration::from_secs(1);

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// Arguments of `touchline probe`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  touchline probe http://127.0.0.1:9090/livez
  touchline probe --wait 30s http://127.0.0.1:9090/readyz

Exit codes: 0 if the answer is 2xx, 1 if it is another one or none, 2 if the command is not understood.")]
pub(crate) struct Arguments {
    /// Try again every 200 ms for so long, until the answer is 2xx
    #[arg(long, value_name = "TIME", value_parser = config::parse_duration)]
    wait: Option<Duration>,
    /// The URL to get, over plain HTTP. Each try may take 1 s
    #[arg(value_name = "URL", value_parser = Target::parse)]
    url: Target,
}

/// A URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    written: String,
    host: String,
    port: u16,
    authority: String,
    target: String,
}

/// Asks until the answer is good or the time is over.
pub(crate) fn probe(arguments: &Arguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime of the probe")?;
    let result = runtime.block_on(wait_for(&arguments.url, arguments.wait));
    // A name that is still being looked up must not hold up the end.
    runtime.shutdown_background();
    let status = result?;
    writeln!(out, "{} answers {status}", arguments.url.written)?;
    Ok(())
}

/// The status of a good answer.
async fn wait_for(url: &Target, wait: Option<Duration>) -> anyhow::Result<u16> {
    let start = Instant::now();
    let left = || wait.unwrap_or_default().saturating_sub(start.elapsed());
    loop {
        let fault = match timeout(TRY, ask(url)).await {
            Ok(Ok(status)) if (200..300).contains(&status) => return Ok(status),
            Ok(Ok(status)) => format!("answers {status}"),
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
                "refuses the connection".to_owned()
            }
            Ok(Err(error)) => format!("does not answer: {error}"),
            Err(_) => format!("does not answer within {}", config::format_duration(TRY)),
        };
        if left() <= PAUSE {
            let url = &url.written;
            match wait {
                Some(wait) => bail!("{url} {fault}, still after {}", config::format_duration(wait)),
                None => bail!("{url} {fault}"),
            }
        }
        sleep(PAUSE).await;
    }
}

async fn ask(url: &Target) -> Result<u16> {
    let call = Call::get(&url.target).with_fields("Connection: close\r\n");
    ask_status((&url.host, url.port), &url.authority, &call).await
}

impl Target {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let written = text.split('#').next().unwrap_or_default();
        let uri: Uri =
            written.parse().map_err(|_| "it is no URL, such as http://127.0.0.1:9090/livez".to_owned())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some(other) => return Err(format!("a probe speaks plain HTTP and not {other}: write http://")),
            None => return Err("it begins with http://, such as http://127.0.0.1:9090/livez".to_owned()),
        }
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || authority.contains('@') {
            return Err("it names a host, and no user".to_owned());
        }
        let has_bad_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'))
            && uri.port_u16().is_none();
        if has_bad_port || uri.port_u16() == Some(0) {
            return Err("its port is a number from 1 to 65535".to_owned());
        }
        Ok(Self {
            written: written.to_owned(),
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(80),
            authority: authority.to_owned(),
            target: uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        thread,
        time::Duration,
    };

    use tokio::time::Instant;

    use super::{Arguments, Target, probe};

    /// Answers each connection with the next text, the last one again and again; counts them, and checks the request.
    fn server(answers: &'static [&'static str]) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = format!("localhost:{}", listener.local_addr().unwrap().port());
        let count = Arc::new(AtomicUsize::new(0));
        let (seen, host) = (Arc::clone(&count), authority.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                assert!(request.starts_with("GET /livez?a=1 HTTP/1.1\r\n"), "{request}");
                assert!(request.contains(&format!("Host: {host}\r\n")), "{request}");
                let index = seen.fetch_add(1, SeqCst);
                let _ = stream.write_all(answers[index.min(answers.len() - 1)].as_bytes());
            }
        });
        (format!("http://{authority}/livez?a=1"), count)
    }

    fn ask(url: &str, wait: Option<Duration>) -> Result<String, String> {
        let mut out = Vec::new();
        let arguments = Arguments { wait, url: Target::parse(url).unwrap() };
        let result = probe(&arguments, &mut out).map_err(|error| format!("{error:#}"));
        result.map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_good_answer_is_one_of_200_to_299() {
        let (url, _) =
            server(&["HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.0 204 No Content\r\n\r\n"]);
        assert_eq!(ask(&url, None).unwrap(), format!("{url} answers 204\n"));

        for status in ["199 ", "301 Moved", "404 Not Found", "503 x"] {
            let answer: &'static str = Box::leak(format!("HTTP/1.1 {status}\r\n\r\n").into_boxed_str());
            let (url, count) = server(Box::leak(Box::new([answer])));
            let said = ask(&url, None).unwrap_err();
            assert!(said.starts_with(&url), "{said}");
            assert_eq!(count.load(SeqCst), 1, "without --wait it asks once");
        }
    }

    #[test]
    fn it_waits_until_the_answer_is_good() {
        let (url, count) =
            server(&["HTTP/1.1 503 x\r\n\r\n", "nonsense\r\n\r\n", "", "HTTP/1.1 200 OK\r\n\r\n"]);

        let said = ask(&url, Some(Duration::from_secs(20))).unwrap();

        assert_eq!((said, count.load(SeqCst)), (format!("{url} answers 200\n"), 4));
    }

    #[test]
    fn it_gives_up_in_one_sentence_when_the_time_is_over() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let start = Instant::now();
        assert_eq!(ask(&url, None).unwrap_err(), format!("{url} does not answer within 1s"));
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        drop(listener);

        let said = ask(&url, Some(Duration::from_millis(500))).unwrap_err();

        assert_eq!(said, format!("{url} refuses the connection, still after 500ms"));
        let unknown = ask("http://no-such-host.invalid/", None).unwrap_err();
        assert!(
            unknown.starts_with("http://no-such-host.invalid/ does not answer")
                && unknown.lines().count() == 1,
            "{unknown}"
        );
    }

    #[test]
    fn urls_are_taken_apart_and_what_is_none_is_refused() {
        let target = |text: &str| Target::parse(text).map(|url| (url.host, url.port, url.target));
        let read = |host: &str, port, target: &str| Ok((host.to_owned(), port, target.to_owned()));
        assert_eq!(target("http://127.0.0.1:9090/livez"), read("127.0.0.1", 9090, "/livez"));
        assert_eq!(target("http://[::1]:9090"), read("::1", 9090, "/"));
        assert_eq!(target("http://[::1]"), read("::1", 80, "/"));
        assert_eq!(target("http://coach.prod.svc/a?b#c"), read("coach.prod.svc", 80, "/a?b"));
        for wrong in [
            "",
            "/livez",
            "127.0.0.1:9090",
            "https://a/",
            "http://",
            "http://u:p@a/",
            "http://a:b/",
            "http://a:99999/",
            "http://a:0/",
            "http://a b/",
            "http://a/\r\nX: y",
        ] {
            assert!(Target::parse(wrong).is_err(), "{wrong:?}: {:?}", Target::parse(wrong));
        }
    }
}
