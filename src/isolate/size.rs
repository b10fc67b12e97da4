//! How many jobs the service takes at once, if it says no to a group that was too large.
//!
//! Pure. Nothing is documented, so what was asked for is right until a group is refused
//! although nobody in it is bad. Then the truth lies between the most that passed and the
//! least that was too many, and is looked for between them: what passes on the way is done,
//! and a refusal costs a request or two, so it is tried only now and then.

/// So many full groups have to pass before a larger one is tried again.
const PASSES_BEFORE_MORE: u32 = 4;

/// The size is known well enough when trying could gain no more than one in so many.
const GAIN: usize = 8;

/// What is known of the most jobs that the service takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeLimit {
    /// So many have passed, or are the best guess.
    pub passed: usize,
    /// So many were too many; more than `passed`.
    pub too_many: usize,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Size {
    /// The most that anybody wants to send at once.
    asked: usize,
    limit: Option<SizeLimit>,
    /// Full groups that passed since one was too large.
    passes: u32,
}

impl Size {
    pub(super) fn new(asked: usize) -> Self {
        Self { asked: asked.max(1), limit: None, passes: 0 }
    }

    /// Begins with what an earlier run has learned.
    pub(super) fn begin_with(&mut self, limit: SizeLimit) {
        if limit.passed > 0 && limit.passed < limit.too_many {
            self.limit = Some(limit);
        }
    }

    /// What was learned, if any group was too large.
    pub(super) fn limit(&self) -> Option<SizeLimit> {
        self.limit
    }

    /// The most to send at once.
    pub(super) fn most(&self) -> usize {
        let Some(SizeLimit { passed, too_many }) = self.limit else { return self.asked };
        let between = too_many - passed - 1;
        let more = if self.passes < PASSES_BEFORE_MORE || between * GAIN <= passed {
            0
        } else {
            between.div_ceil(2)
        };
        self.asked.min(passed + more)
    }

    /// So many passed together.
    pub(super) fn passed(&mut self, jobs: usize) {
        let Some(limit) = &mut self.limit else { return };
        if jobs >= limit.passed {
            self.passes = self.passes.saturating_add(1);
            limit.passed = jobs;
            limit.too_many = limit.too_many.max(jobs + 1);
        }
    }

    /// So many, at least two, were refused although nobody among them was bad, when
    /// `passed_ever` was the most that had passed.
    pub(super) fn too_many(&mut self, jobs: usize, passed_ever: usize) {
        let known = self.limit.map_or(passed_ever, |limit| limit.passed);
        // What is refused now may have passed before: half of it is a new beginning.
        let passed = if known < jobs { known.max(jobs / 2) } else { jobs / 2 };
        let too_many = self.limit.map_or(jobs, |limit| limit.too_many.min(jobs));
        self.limit = Some(SizeLimit { passed, too_many: too_many.max(passed + 1) });
        self.passes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends groups as large as wanted to a service that takes `max`; returns how many
    /// were refused.
    fn send(size: &mut Size, max: usize, groups: u32) -> u32 {
        let (mut refused, mut passed) = (0, 0);
        for _ in 0..groups {
            let jobs = size.most();
            if jobs > max {
                refused += 1;
                size.too_many(jobs, passed);
            } else {
                passed = passed.max(jobs);
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
    fn a_service_that_takes_fewer_than_before_is_followed() {
        let mut size = Size::new(100);
        send(&mut size, 60, 100);
        let refused = send(&mut size, 20, 100);
        assert!(size.most() <= 20 && size.most() >= 17, "{}", size.most());
        assert!(refused <= 8, "{refused}");
    }
}
