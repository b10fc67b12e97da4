//! The page from constructed data.

use std::sync::Arc;

use super::*;
use crate::domain::job::{App, JobState, Library, TargetStatus};
use crate::queue::{
    BatchStats, Bucket, ErrorCodeStats, Holder, QueueCounts, QueueReport, Record, RequestCounts,
    RequestTimeline, RunStats, Truncated,
};
use crate::report::PageEta;

const NOW_MS: i64 = 1_735_689_600_000;
const APP: App = App { sdkappid: 1_400_000_000, library: Library::Chitchat };
const HOSTILE: &str =
    "</script><script>alert(1)</script>\u{202e}<img src=x onerror=alert(2)>\"'&\0";
const SHOWN: &str = "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;\\u{202e}&lt;img src=x onerror=alert(2)&gt;\
                     &quot;'&amp;\\u{0}";

fn info() -> PageInfo {
    PageInfo {
        database: "deskbatch.db".to_owned(),
        version: "9.9.9",
        flags: String::new(),
        rate: 5.0,
        batch: None,
        failed_max: 2,
        settings: vec![("chunk".to_owned(), "100 questions".to_owned())],
        estimate: Arc::new(|_| {
            let (time, requests) = ("3 to 4 min".to_owned(), "12 requests".to_owned());
            Some(PageEta { time, requests })
        }),
    }
}

fn record(id: &str, info: &str) -> Record {
    Record {
        id: 1,
        question_id: id.to_owned(),
        status: TargetStatus::Delete,
        state: JobState::Failed,
        error_code: Some(-50_003),
        error_info: Some(info.to_owned()),
        attempts: 2,
        response_lost: true,
        in_doubt: true,
        batch: "jobs".into(),
        line: 7,
        finished_ms: Some(NOW_MS),
    }
}

fn data(by_target_status: [QueueCounts; 3]) -> PageData {
    let none = || Truncated { rows: Vec::new(), total: 0 };
    let overview = QueueReport {
        by_target_status,
        codes: none(),
        in_doubt: 0,
        succeeded_in_doubt: 0,
        newest_run: (0, 0),
        batches: Truncated { rows: Vec::new(), total: 0 },
        runs: Truncated { rows: Vec::new(), total: 0 },
        traffic: RequestTimeline::default(),
    };
    PageData {
        overview,
        failed: Vec::new(),
        learned_rates: Vec::new(),
        learned_sizes: Vec::new(),
        running: None,
        now_ms: NOW_MS,
    }
}

fn counts(succeeded: u64, failed: u64, pending: u64) -> QueueCounts {
    QueueCounts { pending, succeeded, failed, ..QueueCounts::default() }
}

fn run(ending: Option<&str>) -> RunStats {
    let requests =
        RequestCounts { total: 11, applied: 10, throttled: 1, ..RequestCounts::default() };
    RunStats {
        id: 3,
        app: APP,
        host: HOSTILE.to_owned(),
        pid: 42,
        started_ms: NOW_MS - 2_000,
        finished_ms: ending.map(|_| NOW_MS),
        ending: ending.map(str::to_owned),
        requests,
        first_ms: Some(NOW_MS - 2_000),
        last_ms: Some(NOW_MS),
    }
}

/// Data in which every text contains markup.
fn hostile() -> PageData {
    let mut data = data([counts(3, 0, 0), counts(0, 0, 0), counts(0, 3, 0)]);
    let stats = ErrorCodeStats {
        code: Some(-50_003),
        failed: [0, 0, 3],
        succeeded: 0,
        info: Some(HOSTILE.to_owned()),
    };
    data.overview.codes = Truncated { rows: vec![stats], total: 1 };
    data.overview.batches = Truncated {
        rows: vec![BatchStats {
            id: 1,
            app: APP,
            name: HOSTILE.to_owned(),
            source: "jobs.csv".to_owned(),
            created_ms: NOW_MS,
            rows: 6,
            duplicates: 0,
            rejected: 0,
            cancelled_ms: None,
            counts: counts(3, 3, 0),
        }],
        total: 3,
    };
    data.overview.runs = Truncated { rows: vec![run(Some("drained"))], total: 1 };
    data.failed = vec![record(HOSTILE, HOSTILE), record("plain", "")];
    data
}

#[test]
fn hostile_text_is_escaped_everywhere() {
    let info = PageInfo {
        database: HOSTILE.to_owned(),
        settings: vec![("chunk".to_owned(), HOSTILE.to_owned())],
        ..info()
    };
    let page = page(&hostile(), &info, PageTarget::File);
    assert!(page.matches(SHOWN).count() >= 8, "{page}");
    assert_eq!(page.matches("<script").count(), 1);
    assert!(!page.contains("<img") && !page.contains('\u{202e}') && !page.contains('\0'));
}

#[test]
fn policy_allows_only_inline_style_and_script() {
    for target in [PageTarget::File, PageTarget::Live { generation: 7 }] {
        let page = page(&hostile(), &info(), target);
        let policy = policy(target);
        let in_page = policy.replace('\'', "&#39;");
        assert!(page.contains(&policy) || page.contains(&in_page), "{policy}");
        for (tag, end) in [("<style>", "</style>"), ("<script>", "</script>")] {
            let text = page.split(tag).nth(1).unwrap().split(end).next().unwrap();
            let hash = STANDARD.encode(Sha256::digest(text));
            assert!(policy.contains(&format!("'sha256-{hash}'")), "{tag}");
        }
        assert_eq!(policy.contains("connect-src 'self'"), target != PageTarget::File);
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"));
        // No style attribute, which the policy would block, and no external resource.
        assert!(
            !page.contains(" style=") && !page.contains(" src=\"") && !page.contains("@import")
        );
        assert!(!page.contains("url("));
    }
}

#[test]
fn truncated_list_names_the_csv() {
    let page = page(&hostile(), &PageInfo { batch: Some(1), ..info() }, PageTarget::File);
    assert!(page.contains("The first 2 of 3. Export all as CSV: "), "{page}");
    assert!(page.contains("deskbatch report --state failed --batch 1 -o failed.csv"));
    assert!(page.contains("2 older batches not shown."));
    assert!(page.contains("No question has this id") || page.contains("no question has this id"));
}

#[test]
fn headline_summarises_the_outcome() {
    let text = |counts: QueueCounts, run: Option<RunStats>| {
        let mut data = data([counts, QueueCounts::default(), QueueCounts::default()]);
        data.running = run.as_ref().filter(|run| run.ending.is_none()).map(|_| holder(42));
        data.overview.runs = Truncated { total: 1, rows: run.into_iter().collect() };
        let page = page(&data, &info(), PageTarget::File);
        page.split("<h1 id=\"headline\">").nth(1).unwrap().split('<').next().unwrap().to_owned()
    };
    let ended = || Some(run(Some("signal")));
    assert_eq!(text(counts(0, 0, 0), None), "No jobs");
    assert_eq!(text(counts(0, 0, 1), None), "0 of 1 question updated, 1 pending");
    assert_eq!(text(counts(1_312, 0, 0), ended()), "1,312 of 1,312 questions updated");
    assert_eq!(text(counts(307, 5, 0), ended()), "307 of 312 questions updated, 5 failed");
    let withdrawn = QueueCounts { cancelled: 2, superseded: 1, in_flight: 1, ..counts(7, 0, 0) };
    assert_eq!(
        text(withdrawn, ended()),
        "7 of 11 questions updated, 2 cancelled, 1 superseded, 1 in flight"
    );
    assert_eq!(text(counts(7, 1, 2), ended()), "7 of 10 questions updated, 1 failed, 2 pending");
    assert_eq!(
        text(counts(7, 0, 3), Some(run(None))),
        "7 of 10 questions updated, running, ETA 3 to 4 min"
    );
}

#[test]
fn page_names_app_host_and_queue() {
    let mut data = hostile();
    data.overview.runs.rows[0].host = "desk1".to_owned();
    let info = PageInfo { database: "/srv/desk/deskbatch.db".to_owned(), ..info() };
    let page = page(&data, &info, PageTarget::File);
    assert!(page.contains(
        "App: 1400000000 (chitchat). Last run on host desk1. Queue: /srv/desk/deskbatch.db."
    ));
    assert!(page.contains("<title>deskbatch - deskbatch.db</title>"));
}

#[test]
fn run_is_running_while_it_holds_the_lock() {
    let text = |pid: Option<u32>| {
        let mut data = data([counts(7, 0, 3), QueueCounts::default(), QueueCounts::default()]);
        data.overview.runs =
            Truncated { total: 1, rows: vec![RunStats { pid: 32_660, ..run(None) }] };
        data.running = pid.map(holder);
        page(&data, &info(), PageTarget::File)
    };
    let running = text(Some(32_660));
    assert!(running.contains("7 of 10 questions updated, running, ETA 3 to 4 min<"));
    assert!(running.contains("ETA: 3 to 4 min (12 requests)."));
    assert!(running.contains("running (PID 32660 on "));
    // No holder of the lock, or another run that has sent nothing yet.
    for pid in [None, Some(7)] {
        let died = text(pid);
        assert!(died.contains("7 of 10 questions updated, 3 pending<"));
        assert!(died.contains("The last run died before its end."));
        assert!(died.contains("died before its end (PID 32660 on "));
        assert!(!died.contains("updated, running") && !died.contains("running (PID"));
    }
}

fn holder(pid: u32) -> Holder {
    Holder { host: "here".to_owned(), pid, since_ms: NOW_MS }
}

#[test]
fn drawings_have_text_and_style_sheet_colours() {
    let mut data = hostile();
    let at = |n: i64| Bucket { at_ms: NOW_MS + n * 1_000, requests: run(None).requests };
    data.overview.traffic = RequestTimeline {
        requests: RequestCounts { in_flight: 1, transient: 1, total: 13, ..run(None).requests },
        session: Some((3, 3)),
        bucket_ms: 1_000,
        buckets: (0..3).map(at).collect(),
        pauses: Vec::new(),
    };
    let page = page(&data, &info(), PageTarget::File);
    let drawings: Vec<&str> = page.split("<svg ").skip(1).collect();
    // The bar of jobs, and the chart in two sizes.
    assert_eq!(drawings.len(), 3);
    for drawing in drawings {
        let drawing = drawing.split("</svg>").next().unwrap();
        assert!(drawing.contains("role=\"img\" aria-label=\""), "{drawing}");
        for (name, colour) in ["fill", "stroke"].into_iter().flat_map(|name| {
            let marks = drawing.split(&format!(" {name}=\"#")[..]).skip(1).collect::<Vec<_>>();
            marks.into_iter().map(move |rest| (name, rest[..6].to_owned()))
        }) {
            assert!(
                STYLE.contains(&format!("[{name}=\"#{colour}\"]")),
                "{name} {colour} is not in page.css"
            );
        }
    }
    assert!(
        page.contains("33 in total, at most 11 per second in any 1.0 s, limit 5; 3 throttled.")
    );
}

#[test]
fn live_page_has_the_same_sections() {
    let data = hostile();
    let live = page(&data, &info(), PageTarget::Live { generation: 7 });
    assert!(live.contains("<body data-generation=\"7\">"));
    for section in sections(&data, &info()) {
        assert!(live.contains(&section.html), "{}", section.id);
        assert!(section.html.contains(&format!("id=\"{}\"", section.id)), "{}", section.id);
    }
}
