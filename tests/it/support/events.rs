//! Invariants of the events of every run.

use std::collections::BTreeMap;

use deskbatch::runner::{Event, RunReport, Totals};

/// Checks the order of events and that their figures add up.
pub fn check_events(events: &[Event], open: u64, report: Option<&RunReport>) {
    let [Event::Began { open: reported, .. }, middle @ .., Event::Ended { ending }] = events else {
        panic!("no beginning or no end: {events:?}");
    };
    assert_eq!(*reported, open);
    let (mut flying, mut left, mut last) = (BTreeMap::new(), 0_u64, Totals::default());
    let (mut stopping, mut waiting) = (false, 0);
    for event in middle {
        match event {
            Event::Sent { request, jobs, .. } => {
                assert!(!stopping, "a request left after the stop");
                assert_eq!(flying.insert(*request, *jobs), None, "left twice");
                left += 1;
            }
            Event::Settled { request, totals, .. } => {
                let jobs = flying.remove(request).expect("settled what had left") as u64;
                assert_eq!(totals.requests, left);
                assert!(totals.done() >= last.done(), "{totals:?} after {last:?}");
                // Jobs that were rejected in earlier chunks may succeed with this one.
                assert!(
                    totals.succeeded - last.succeeded <= jobs + waiting,
                    "{totals:?} after {last:?}"
                );
                waiting += jobs;
                waiting -= (totals.done() - last.done()).min(waiting);
                assert!(totals.throttled + totals.transient <= totals.requests);
                last = *totals;
            }
            Event::Stopping { in_flight } => {
                assert_eq!(*in_flight, flying.len());
                stopping = true;
            }
            Event::Concluded { totals } => {
                assert!(totals.done() > last.done(), "{totals:?} after {last:?}");
                assert_eq!(totals.requests, left);
                last = *totals;
            }
            Event::Waiting { .. } | Event::Resumed => {}
            Event::Began { .. } | Event::Ended { .. } => panic!("{event:?} in the middle"),
        }
    }
    let Some(report) = report else { return };
    assert_eq!(report.ending, *ending);
    assert_eq!(Totals { requests: left, ..last }, report.totals);
}
