//! Holds `docs/metrics.md` to the metrics as declared. `UPDATE_GOLDEN=1` writes it anew.

use std::{env, fs};

use touchline::telemetry::metrics::reference_markdown;

const PAGE: &str = "docs/metrics.md";

#[test]
fn the_page_of_metrics_is_up_to_date() {
    let expected = reference_markdown();
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(PAGE, &expected).unwrap();
    }

    let found = fs::read_to_string(PAGE).unwrap_or_default();

    assert!(
        found == expected,
        "{PAGE} is stale: run `make docs` (UPDATE_GOLDEN=1 cargo test --test metrics_doc)"
    );
}
