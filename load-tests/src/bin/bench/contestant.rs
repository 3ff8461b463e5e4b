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
}

impl Contestant {
    pub(crate) const ALL: [Self; 8] = [
        Self::Direct,
        Self::BarePingora,
        Self::Nginx,
        Self::Envoy,
        Self::LiteLlm,
        Self::Portkey,
        Self::TollgateOff,
        Self::TollgateOn,
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
        }
    }

    /// Whether it can refuse a caller whose limit is used up, without a database; everyone does everything else.
    pub(crate) fn does(self, workload: Workload) -> bool {
        match workload {
            Workload::Refused => match self {
                Self::Nginx | Self::Envoy | Self::TollgateOn => true,
                Self::Direct
                | Self::BarePingora
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
            | Workload::Mix => true,
        }
    }

    /// How its answers are checked.
    pub(crate) fn exactness(self) -> Exactness {
        match self {
            Self::LiteLlm | Self::Portkey => Exactness::Sense,
            Self::Direct
            | Self::BarePingora
            | Self::Nginx
            | Self::Envoy
            | Self::TollgateOff
            | Self::TollgateOn => Exactness::Bytes,
        }
    }
}
