//! The pace: how far apart two requests leave.
//!
//! Pure: what happened comes in as an event with its time, the next slot comes out. The
//! gap is fixed for now; what a service bears is to be learned here, from the same events,
//! and nothing outside this file will notice.

use std::time::Duration;

use crate::clock::Moment;

/// How much wider than the limit's own spacing the gap is. At exactly the limit the
/// smallest jitter on the way puts one call too many into a second, and a server that
/// counts a sliding second refuses one call in seven; at 2 % it is two in a thousand.
const MARGIN: f64 = 1.02;

/// What the pace is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaceEvent {
    /// A request left.
    Left(Moment),
    /// No request may leave before, whatever was known until now.
    NotBefore(Moment),
}

/// When the next request may leave, as far as spacing goes.
#[derive(Debug, Clone)]
pub struct Pace {
    gap: Duration,
    next: Moment,
}

impl Pace {
    /// A pace for a limit of `rate` requests a second, which must be above zero.
    pub fn new(rate: f64) -> Self {
        Self { gap: Duration::from_secs_f64(MARGIN / rate), next: Moment::default() }
    }

    /// Takes in what happened. The gap counts from the moment a request really left.
    pub fn on(&mut self, event: PaceEvent) {
        let earliest = match event {
            PaceEvent::Left(at) => at + self.gap,
            PaceEvent::NotBefore(at) => at,
        };
        self.next = self.next.max(earliest);
    }

    /// The earliest moment for the next request.
    pub fn next_slot(&self) -> Moment {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_five_a_second_requests_leave_204_ms_apart_counted_from_the_actual_departure() {
        let mut pace = Pace::new(5.0);
        assert_eq!(pace.next_slot(), Moment::default());
        let late = Moment(Duration::from_millis(330));
        pace.on(PaceEvent::Left(late));
        assert_eq!(pace.next_slot(), late + Duration::from_millis(204));
        pace.on(PaceEvent::NotBefore(late));
        assert_eq!(pace.next_slot(), late + Duration::from_millis(204));
    }
}
