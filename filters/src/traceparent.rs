//! W3C Trace Context: the header that says which trace a call belongs to, and which part of the calls is traced.
//!
//! Read strictly, as the recommendation asks: whatever doesn't fit is taken as if it weren't there. Never makes an id: those
//! are random, and come from outside.

/// What a caller's `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Of the whole trace. Not zero.
    pub trace_id: u128,
    /// Of the span that called. Not zero.
    pub span_id: u64,
    /// Whether the caller records it.
    pub is_sampled: bool,
}

impl TraceParent {
    /// Reads the header's value.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = hex(parts.next()?, 32)?;
        let span_id = u64::try_from(hex(parts.next()?, 16)?).ok()?;
        let flags = hex(parts.next()?, 2)?;
        // A later version may say more at the end; this one may not.
        let is_known = match version {
            0 => parts.next().is_none(),
            0xff => false,
            _ => true,
        };
        (is_known && trace_id != 0 && span_id != 0).then_some(TraceParent {
            trace_id,
            span_id,
            is_sampled: flags & 1 == 1,
        })
    }

    /// The header's value.
    pub fn header(&self) -> String {
        let flags = u8::from(self.is_sampled);
        format!(
            "00-{:032x}-{:016x}-{flags:02x}",
            self.trace_id, self.span_id
        )
    }
}

/// Whether a trace belongs to this part of all, from 0 to 1. The same for every process that asks: it is worked out from the
/// id's lower half, which is random.
pub fn is_sampled(trace_id: u128, ratio: f64) -> bool {
    if ratio >= 1.0 {
        return true;
    }
    let place = (trace_id & u128::from(u64::MAX)) as u64;
    // Of 64 bits, the mantissa's 53 decide.
    ((place >> 11) as f64) < ratio * (1_u64 << 53) as f64
}

/// Exactly so many digits in lower case.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let fits = text.len() == digits && text.bytes().all(is_digit);
    fits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_example_of_the_recommendation_is_read_and_written() {
        let parent = TraceParent::parse(EXAMPLE);
        let expected = TraceParent {
            trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
            span_id: 0xb7ad_6b71_6920_3331,
            is_sampled: true,
        };
        assert_eq!(parent, Some(expected));
        assert_eq!(expected.header(), EXAMPLE);
        let unsampled = TraceParent::parse(&EXAMPLE.replace("-01", "-02"));
        assert_eq!(unsampled.map(|parent| parent.is_sampled), Some(false));
    }

    #[test]
    fn what_does_not_fit_is_not_there() {
        for wrong in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceParent::parse(wrong), None, "{wrong}");
        }
        let later = EXAMPLE.replacen("00", "01", 1) + "-more";
        assert!(TraceParent::parse(&later).is_some());
    }

    #[test]
    fn a_part_is_a_part() {
        assert!(is_sampled(u128::MAX, 1.0) && !is_sampled(0, 0.0));
        // Fibonacci hashing spreads evenly.
        let ids = (1..=10_000_u128).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let count = ids.filter(|id| is_sampled(*id, 0.1)).count();
        assert!((950..=1_050).contains(&count), "{count}");
    }
}
