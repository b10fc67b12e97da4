//! When isolation drops its state.

use super::*;

const ATTEMPTS: Attempts = Attempts { count: 1, evaluated_at_last: 1 };

/// An isolation that has split a group of ten jobs for failures, and the first part.
fn after_split() -> (Isolate, Group) {
    let mut isolate = Isolate::new(100);
    let group = isolate.free_group(TargetStatus::Enable, (1..=10).collect());
    isolate.split(group, 7, ATTEMPTS);
    assert_eq!(isolate.split_groups.len(), 1);
    let part = isolate.next_group().expect("a part");
    (isolate, part)
}

#[test]
fn applied_parts_end_their_split_and_reduce_size() {
    let (mut isolate, first) = after_split();
    isolate.record(first, GroupResult::Applied);
    while let Some(part) = isolate.next_group() {
        isolate.record(part, GroupResult::Applied);
    }
    assert_eq!((isolate.split_groups.len(), isolate.chunk_size.most()), (0, 5));
}

#[test]
fn rejected_part_ends_its_split() {
    for scope in [RejectionScope::Questions, RejectionScope::Request] {
        let (mut isolate, part) = after_split();
        isolate.record(part, GroupResult::Rejected { rejection: 8, scope });
        assert!(isolate.split_groups.is_empty(), "{scope:?}");
    }
    let (mut isolate, mut part) = after_split();
    isolate.shrink(&mut part, vec![1]);
    assert!(isolate.split_groups.is_empty());
}

#[test]
fn rejected_part_of_one_job_ends_its_split() {
    let mut isolate = Isolate::new(100);
    let group = isolate.free_group(TargetStatus::Enable, vec![1, 2]);
    isolate.split(group, 7, ATTEMPTS);
    let part = isolate.next_group().expect("a part");
    let scope = RejectionScope::Questions;
    isolate.record(part, GroupResult::Rejected { rejection: 8, scope });
    assert!(isolate.split_groups.is_empty());
}
