//! How long a dataset's driver pauses after what it tried in vain. Pure.
//!
//! Invariant: a pause grows only when one that was over was in vain, so those who are tried at once,
//! and fail, neither lengthen it nor end it.

use std::time::{Duration, Instant};

/// See the module's documentation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BackOff {
    /// How often in a row a listing that was made to send something was made in vain.
    lists: u32,
    /// How often something was sent in vain since an update was made last: that the service can be
    /// listed does not say that it takes updates.
    updates: u32,
    /// Until when nothing is sent.
    until: Option<Instant>,
    /// Whether somebody began to wait since something was tried last: it is tried at once.
    hurried: bool,
}

impl BackOff {
    /// Returns before when nothing is to be sent.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until.filter(|_| !self.hurried)
    }

    /// Somebody waits for something to be sent.
    pub(super) fn hurry(&mut self) {
        self.hurried = true;
    }

    /// The service was listed: it can be asked again.
    pub(super) fn listed(&mut self) {
        if self.lists > 0 {
            self.lists = 0;
            self.until = None;
        }
    }

    pub(super) fn updated(&mut self) {
        *self = Self::default();
    }

    /// A listing failed, and everybody who waits was told. It is held against what is to be sent only
    /// if it was made for that. `pause` says how long one lasts, by its number in a row.
    pub(super) fn list_failed(
        &mut self,
        to_send: bool,
        now: Instant,
        pause: impl Fn(u32) -> Duration,
    ) {
        self.hurried = false;
        if to_send && !self.is_pausing(now) {
            self.lists += 1;
            self.until = Some(now + pause(self.lists));
        }
    }

    /// Something was not sent, or refused, and everybody who waits was told.
    pub(super) fn failed(&mut self, now: Instant, pause: impl Fn(u32) -> Duration) {
        self.hurried = false;
        if !self.is_pausing(now) {
            self.updates += 1;
            self.until = Some(now + pause(self.updates));
        }
    }

    /// Something is to be sent again for those who wait.
    pub(super) fn again(&mut self, now: Instant, pause: impl Fn(u32) -> Duration) {
        self.hurried = false;
        self.updates += 1;
        self.until = Some(now + pause(self.updates));
    }

    fn is_pausing(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u32) -> Duration {
        Duration::from_secs(count.into())
    }

    #[test]
    fn whoever_waits_is_tried_at_once_and_leaves_the_pause_as_it_is() {
        let now = Instant::now();
        let mut back_off = BackOff::default();
        back_off.failed(now, seconds);
        let until = now + seconds(1);
        assert_eq!(back_off.until(), Some(until));
        for _ in 0..10 {
            back_off.hurry();
            assert_eq!(back_off.until(), None);
            back_off.failed(now, seconds);
            assert_eq!(back_off.until(), Some(until));
        }
        back_off.failed(until, seconds);
        assert_eq!(back_off.until(), Some(until + seconds(2)));
        back_off.updated();
        assert_eq!(back_off.until(), None);
        back_off.failed(until, seconds);
        assert_eq!(back_off.until(), Some(until + seconds(1)));
    }

    #[test]
    fn a_listing_that_is_answered_ends_the_pause_after_those_that_were_not() {
        let now = Instant::now();
        let mut back_off = BackOff::default();
        back_off.list_failed(false, now, seconds);
        assert_eq!(back_off.until(), None, "nothing was to be sent");
        back_off.list_failed(true, now, seconds);
        assert_eq!(back_off.until(), Some(now + seconds(1)));
        back_off.listed();
        assert_eq!(back_off.until(), None);
        // What is refused is no better for it.
        back_off.failed(now, seconds);
        back_off.listed();
        assert_eq!(back_off.until(), Some(now + seconds(1)));
    }

    #[test]
    fn what_is_sent_again_for_those_who_wait_waits_for_no_longer_pause() {
        let now = Instant::now();
        let mut back_off = BackOff::default();
        back_off.failed(now, |_| seconds(20));
        back_off.hurry();
        back_off.again(now, |_| seconds(1));
        assert_eq!(back_off.until(), Some(now + seconds(1)));
    }
}
