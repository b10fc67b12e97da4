//! A process that was stopped for longer than its timeout reads the responses that arrived meanwhile.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::binary::{Going, call_for_nothing, has, sandbox_with};
use crate::support::place::{Place, manifest, question};

/// The sandbox's latency. Three of them are longer than the timeout.
const LATENCY: Duration = Duration::from_millis(400);
const TIMEOUT: &str = "1s";

#[tokio::test(flavor = "multi_thread")]
async fn responses_that_came_during_a_stop_are_read() {
    let sandbox = sandbox_with(|s| s.latency = LATENCY).await;
    let place = Place::new();
    let ids: Vec<String> = (0..40).map(|n| question(&format!("q{n}"))).collect();
    place.write("jobs.csv", manifest(ids.iter().map(|id| (id.as_str(), "6"))));
    let mut command = place.deskbatch_toward(&sandbox, &["run", "jobs.csv", "--yes"]);
    command.args(["--chunk", "1", "--rate", "20", "--timeout", TIMEOUT]);
    let run = Going::start(command);
    // The first request goes alone, later ones as many at once as the latency needs.
    sandbox.seen(10).await;
    run.signal(Signal::STOP);
    for _ in 0..4 {
        call_for_nothing(sandbox.addr());
    }
    run.signal(Signal::CONT);
    has(&run.ends(0), &["40 (0 throttled, 0 without a valid response)"]);
    assert_eq!(sandbox.ledger().total, 40 + 4);
    assert_eq!(place.counts(), [0, 0, 40, 0, 0, 0]);
}
