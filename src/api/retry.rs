//! When to try again, and after how long.

use std::time::Duration;

use super::error::Error;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Returns whether a call may be made again after `error`. Throttling says that nothing was done;
/// after a broken connection or a 5xx only a `repeatable` call is safe to repeat.
pub(super) fn is_worth_retrying(error: &Error, repeatable: bool) -> bool {
    match error {
        Error::Fault(fault) => {
            fault.is_throttle() || fault.is_credentials() || (repeatable && fault.is_server_error())
        }
        Error::Broken { .. } | Error::Garbled { .. } => repeatable,
        Error::TimedOut { .. }
        | Error::NoTurn { .. }
        | Error::Unreachable { .. }
        | Error::NoCredentials { .. }
        | Error::Unsayable(_) => false,
    }
}

/// Returns the pause before attempt `attempt` (from 1): doubling, with full jitter. `random` is
/// in 0..1.
pub(super) fn pause(attempt: u32, random: f64) -> Duration {
    let ceiling = FIRST
        .saturating_mul(1 << attempt.saturating_sub(1).min(10))
        .min(LONGEST);
    ceiling.mul_f64(0.1 + 0.9 * random)
}

/// Makes a number in 0..1 of one that was drawn.
pub(super) fn fraction(drawn: u64) -> f64 {
    // Without a fraction of its own, as it is.
    const ONE: u64 = 1 << 53;
    (drawn >> (64 - 53)) as f64 / ONE as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        assert_eq!(pause(1, 1.0), FIRST);
        assert_eq!(pause(3, 1.0), FIRST * 4);
        assert_eq!(pause(60, 1.0), LONGEST);
        assert!(pause(3, 0.0) > Duration::ZERO);
    }

    #[test]
    fn numbers_are_drawn_from_the_whole_of_a_range() {
        assert_eq!(fraction(0), 0.0);
        assert_eq!(fraction(1 << 63), 0.5);
        assert!((0.999..1.0).contains(&fraction(u64::MAX)));
    }
}
