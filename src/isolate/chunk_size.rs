//! How many jobs the service takes at once, if it says no to a group that was too large.
//!
//! Pure. Nothing is documented, so what was asked for is right until a group is refused
//! although nobody in it is bad. Then the truth lies between the most that passed and the
//! least that was too many, and is looked for between them: what passes on the way is done,
//! and only one larger group is out at a time, so a refusal costs a request or two. Passing
//! trouble that large groups met and their parts did not is another matter: it makes groups
//! smaller for a while, and is not kept.

use crate::domain::learned::SizeLimit;

/// So many full groups have to pass before a larger one is tried again.
const PASSES_BEFORE_MORE: u32 = 4;
/// And so many while it is not known what became of the last such one: its search is under
/// way, or has found a bad one in it.
const PASSES_IN_DOUBT: u32 = 64;

/// The size is known well enough when trying could gain no more than one in so many.
const GAIN: usize = 8;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Size {
    /// The most that anybody wants to send at once.
    asked: usize,
    limit: Option<SizeLimit>,
    /// So many have passed together, in this run or in the one that learned the limit.
    proven: usize,
    /// The most for now, after trouble.
    eased: Option<usize>,
    /// Full groups that passed since the last that did not, or since a larger one was tried.
    passes: u32,
    /// A larger group is out, or was refused for something else.
    trying: bool,
    /// A group of so many was rejected once although no question in it was bad, and that may have been
    /// something else than its size: it is known to pass, or the code is about questions.
    doubted: Option<usize>,
}

impl Size {
    pub(super) fn new(asked: usize) -> Self {
        Self {
            asked: asked.max(1),
            limit: None,
            proven: 0,
            eased: None,
            passes: 0,
            trying: false,
            doubted: None,
        }
    }

    /// Begins with what an earlier run has learned; what cannot be is not believed.
    pub(super) fn begin_with(&mut self, limit: SizeLimit) {
        if limit.passed > 0 && limit.passed < limit.too_many {
            self.limit = Some(limit);
            self.proven = limit.passed;
        }
    }

    /// What was learned, if any group was too large.
    pub(super) fn limit(&self) -> Option<SizeLimit> {
        self.limit
    }

    /// The most to send at once.
    pub(super) fn most(&self) -> usize {
        let tries = self.passes >= if self.trying { PASSES_IN_DOUBT } else { PASSES_BEFORE_MORE };
        let most = match self.limit {
            None => self.asked,
            Some(SizeLimit { passed, too_many }) => {
                let between = too_many - passed - 1;
                let more = if tries && between > passed / GAIN { between.div_ceil(2) } else { 0 };
                self.asked.min(passed.saturating_add(more))
            }
        };
        match self.eased {
            Some(eased) if tries => most.min(eased.saturating_mul(2)),
            Some(eased) => most.min(eased),
            None => most,
        }
    }

    /// So many leave together: if that is more than is known to pass, the next ones wait for
    /// what becomes of it.
    pub(super) fn sent(&mut self, jobs: usize) {
        let known = self.limit.map_or(usize::MAX, |limit| limit.passed);
        if jobs > known.min(self.eased.unwrap_or(usize::MAX)) {
            self.passes = 0;
            self.trying = true;
        }
    }

    /// So many passed together.
    pub(super) fn passed(&mut self, jobs: usize) {
        self.proven = self.proven.max(jobs);
        if self.doubted.is_some_and(|doubted| jobs >= doubted) {
            self.doubted = None;
        }
        if let Some(limit) = &mut self.limit
            && jobs >= limit.passed
        {
            self.trying &= jobs == limit.passed;
            limit.passed = jobs;
            limit.too_many = limit.too_many.max(jobs.saturating_add(1));
        }
        if jobs >= self.most() {
            self.passes = self.passes.saturating_add(1);
        }
        if self.eased.is_some_and(|eased| jobs > eased) {
            self.trying = false;
            self.eased = Some(jobs).filter(|eased| *eased < self.asked);
        }
    }

    /// So many, at least two, were rejected by a code although no question among them was bad.
    /// `may_be_wrong`: the code is about questions.
    pub(super) fn too_many(&mut self, jobs: usize, may_be_wrong: bool) {
        self.passes = 0;
        self.trying = false;
        if self.doubted.is_none() && (may_be_wrong || jobs <= self.proven) {
            self.doubted = Some(jobs);
            return;
        }
        if jobs <= self.proven {
            // It passes no longer: half of it is a new beginning.
            self.proven = 0;
        }
        self.doubted = None;
        let passed = self.proven.max(jobs / 2);
        let too_many = self.limit.map_or(jobs, |limit| limit.too_many.min(jobs));
        self.limit = Some(SizeLimit { passed, too_many: too_many.max(passed + 1) });
    }

    /// So many, at least two, met trouble again and again that their parts did not meet.
    pub(super) fn trouble(&mut self, jobs: usize) {
        self.passes = 0;
        self.eased = Some(self.eased.map_or(jobs / 2, |eased| eased.min(jobs / 2)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends groups as large as wanted to a service that takes `max`; returns how many
    /// were refused.
    fn send(size: &mut Size, max: usize, groups: u32) -> u32 {
        let mut refused = 0;
        for _ in 0..groups {
            let jobs = size.most();
            size.sent(jobs);
            if jobs > max {
                refused += 1;
                size.too_many(jobs, false);
            } else {
                size.passed(jobs);
            }
        }
        refused
    }

    #[test]
    fn the_most_that_the_service_takes_is_found_with_few_refusals() {
        for max in [1, 2, 3, 30, 50, 64, 75, 99, 100, 101, 499] {
            let mut size = Size::new(500);
            let refused = send(&mut size, max, 200);
            let found = size.most();
            assert!(found <= max && (max - found) * GAIN <= max, "{max}: {found}");
            assert!(refused <= 12, "{max}: {refused}");
        }
    }

    #[test]
    fn what_is_asked_for_is_right_until_it_is_refused() {
        let mut size = Size::new(100);
        assert_eq!((send(&mut size, 100, 50), size.most(), size.limit()), (0, 100, None));
    }

    #[test]
    fn the_next_run_begins_where_the_last_one_ended_and_asks_for_no_more_than_it_wants() {
        let mut size = Size::new(100);
        send(&mut size, 40, 100);
        let limit = size.limit().expect("learned");
        let mut next = Size::new(100);
        next.begin_with(limit);
        assert_eq!((send(&mut next, 40, 100), next.most()), (0, size.most()));
        let mut small = Size::new(10);
        small.begin_with(limit);
        assert_eq!(small.most(), 10);
    }

    #[test]
    fn one_refusal_of_what_is_known_to_pass_is_not_believed_and_a_second_is() {
        let mut size = Size::new(100);
        size.passed(100);
        size.too_many(100, false);
        assert_eq!((size.most(), size.limit()), (100, None));
        size.too_many(100, false);
        assert_eq!(size.most(), 50);
    }

    #[test]
    fn one_larger_group_is_out_at_a_time() {
        let mut size = Size::new(100);
        size.too_many(100, false);
        for _ in 0..PASSES_BEFORE_MORE {
            size.passed(50);
        }
        let larger = size.most();
        assert!(larger > 50);
        size.sent(larger);
        assert_eq!(size.most(), 50);
        size.passed(larger);
        assert!(size.most() >= larger);
    }

    #[test]
    fn trouble_makes_groups_smaller_for_a_while_and_is_not_kept() {
        let mut size = Size::new(100);
        size.trouble(100);
        assert_eq!((size.most(), size.limit()), (50, None));
        assert_eq!(send(&mut size, 100, 20), 0);
        assert_eq!((size.most(), size.limit()), (100, None));
    }

    #[test]
    fn whatever_a_queue_file_says_there_is_something_to_send() {
        for (passed, too_many) in
            [(0, 1), (1, usize::MAX), (usize::MAX - 1, usize::MAX), (5, 5), (9, 3), (1, 2)]
        {
            let mut size = Size::new(100);
            size.begin_with(SizeLimit { passed, too_many });
            assert_eq!(send(&mut size, 100, 50), 0, "{passed} {too_many}");
            assert!((1..=100).contains(&size.most()), "{passed} {too_many}");
        }
    }

    #[test]
    fn a_service_that_takes_fewer_than_before_is_followed() {
        let mut size = Size::new(100);
        send(&mut size, 60, 100);
        let refused = send(&mut size, 20, 100);
        assert!(size.most() <= 20 && size.most() >= 15, "{}", size.most());
        assert!(refused <= 8, "{refused}");
    }
}
