//! How many calls may be under way at a time: half as many when the service asks to slow down, and
//! one more after each round of calls that it does not.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

#[derive(Debug)]
pub(super) struct Limiter {
    most: u32,
    places: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How many calls may be under way; the fraction is what the next place lacks.
    limit: f64,
    /// Places that are to go and are still taken.
    surplus: usize,
    /// Rises with each cut: calls that began before it have no say in the next.
    cuts: u64,
}

/// A place for one call.
#[derive(Debug)]
pub(super) struct Place<'a> {
    limiter: &'a Limiter,
    permit: Option<SemaphorePermit<'a>>,
    cuts: u64,
}

impl Limiter {
    pub(super) fn new(most: u32) -> Self {
        Self {
            most,
            places: Semaphore::new(most as usize),
            state: Mutex::new(State {
                limit: f64::from(most),
                surplus: 0,
                cuts: 0,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place; first come, first served.
    pub(super) async fn place(&self) -> Place<'_> {
        let permit = self.places.acquire().await.ok();
        Place {
            limiter: self,
            permit,
            cuts: self.state().cuts,
        }
    }

    fn resize(&self, state: &mut State, limit: f64) {
        let limit = limit.clamp(1.0, f64::from(self.most));
        let (before, after) = (state.limit as usize, limit as usize);
        state.limit = limit;
        match after.checked_sub(before) {
            Some(more) => {
                let kept = more.min(state.surplus);
                state.surplus -= kept;
                self.places.add_permits(more - kept);
            }
            None => {
                let fewer = before - after;
                state.surplus += fewer - self.places.forget_permits(fewer);
            }
        }
    }
}

impl Place<'_> {
    /// The call was answered.
    pub(super) fn answered(self, throttled: bool) {
        let mut state = self.limiter.state();
        let limit = state.limit;
        match throttled {
            // All who were under way are told the same: one cut is for all of them.
            true if self.cuts == state.cuts => {
                state.cuts += 1;
                self.limiter.resize(&mut state, limit / 2.0);
            }
            true => {}
            false => self.limiter.resize(&mut state, limit + 1.0 / limit),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.limiter.state();
        if state.surplus > 0
            && let Some(permit) = self.permit.take()
        {
            state.surplus -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// Takes all places there are.
    fn take(limiter: &Limiter) -> Vec<Place<'_>> {
        std::iter::from_fn(|| limiter.place().now_or_never()).collect()
    }

    #[test]
    fn s18_concurrency_is_halved_at_once_and_grows_slowly() {
        let limiter = Limiter::new(16);
        let all = take(&limiter);
        assert_eq!(all.len(), 16);
        // All are throttled, which counts once.
        all.into_iter().for_each(|place| place.answered(true));
        assert_eq!(take(&limiter).len(), 8);
        take(&limiter).remove(0).answered(true);
        assert_eq!(take(&limiter).len(), 4);
        for _ in 0..10 {
            take(&limiter).remove(0).answered(true);
        }
        assert_eq!(take(&limiter).len(), 1);
        for more in 2..=16 {
            let round = take(&limiter);
            let size = round.len();
            round.into_iter().for_each(|place| place.answered(false));
            let now = take(&limiter).len();
            assert!(now == size || now == size + 1, "{more}: {size} {now}");
        }
        for _ in 0..200 {
            take(&limiter)
                .into_iter()
                .for_each(|place| place.answered(false));
        }
        assert_eq!(take(&limiter).len(), 16);
    }

    #[test]
    fn places_that_are_taken_go_when_they_are_given_back() {
        let limiter = Limiter::new(8);
        let mut all = take(&limiter);
        all.remove(0).answered(true);
        assert_eq!(take(&limiter).len(), 0);
        // One of them is not even answered.
        all.truncate(4);
        assert_eq!(take(&limiter).len(), 0);
        all.truncate(3);
        assert_eq!(take(&limiter).len(), 1);
        all.clear();
        assert_eq!(take(&limiter).len(), 4);
    }
}
