//! Who is measured: what each is called, which work it does, and what of it it doesn't do.

mod launch;

pub(crate) use launch::{Places, Running, free_address, start, start_under};

use crate::driver::Exactness;
use crate::workload::Workload;

/// Who.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// Nobody in between.
    Direct,
    /// `bare-proxy` of this crate.
    BarePingora,
    /// nginx of the system.
    Nginx,
    /// Envoy with a key filter.
    Envoy,
    /// LiteLLM's proxy with a master key.
    LiteLlm,
    /// Portkey's gateway.
    Portkey,
    /// This project with nothing switched on.
    TollgateOff,
    /// This project with keys, expressions, estimates, limits, metrics and the usage log.
    TollgateOn,
    /// The same with a semantic cache.
    TollgateCache,
}

impl Contestant {
    pub(crate) const ALL: [Self; 9] = [
        Self::Direct,
        Self::BarePingora,
        Self::Nginx,
        Self::Envoy,
        Self::LiteLlm,
        Self::Portkey,
        Self::TollgateOff,
        Self::TollgateOn,
        Self::TollgateCache,
    ];

    /// As it is called in the table and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::BarePingora => "bare-pingora",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::LiteLlm => "litellm",
            Self::Portkey => "portkey",
            Self::TollgateOff => "tollgate-off",
            Self::TollgateOn => "tollgate-on",
            Self::TollgateCache => "tollgate-cache",
        }
    }

    /// Whether it takes part. Not everyone can refuse a caller whose limit is used up without a database; a cache is ours,
    /// beside the same without one; everything else is done by everyone.
    pub(crate) fn does(self, workload: Workload) -> bool {
        match workload {
            Workload::Refused => match self {
                Self::Nginx | Self::Envoy | Self::TollgateOn => true,
                Self::Direct
                | Self::BarePingora
                | Self::LiteLlm
                | Self::Portkey
                | Self::TollgateOff
                | Self::TollgateCache => false,
            },
            Workload::CacheHit | Workload::CacheMiss => match self {
                Self::Direct | Self::TollgateOn | Self::TollgateCache => true,
                Self::BarePingora
                | Self::Nginx
                | Self::Envoy
                | Self::LiteLlm
                | Self::Portkey
                | Self::TollgateOff => false,
            },
            Workload::Chat
            | Workload::History
            | Workload::Images
            | Workload::Stream
            | Workload::Paced
            | Workload::Embeddings
            | Workload::Mix => self != Self::TollgateCache,
        }
    }

    /// Whether it takes part in this round, of 1 and further. Whose ratios lie tens of times apart need no third.
    pub(crate) fn plays(self, round: usize) -> bool {
        !self.makes_anew() || round <= 2
    }

    /// How its answers are checked.
    pub(crate) fn exactness(self) -> Exactness {
        match self.makes_anew() {
            true => Exactness::Sense,
            false => Exactness::Bytes,
        }
    }

    /// Whether it makes each answer anew from what it has understood, instead of passing it on: other bytes, and much work.
    fn makes_anew(self) -> bool {
        match self {
            Self::LiteLlm | Self::Portkey => true,
            Self::Direct
            | Self::BarePingora
            | Self::Nginx
            | Self::Envoy
            | Self::TollgateOff
            | Self::TollgateOn
            | Self::TollgateCache => false,
        }
    }
}
