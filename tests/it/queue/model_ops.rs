//! Random operations for the queue and its model.

use proptest::prelude::*;
use proptest::sample::Index;

use crate::queue::model_queue::Verdict;

/// Only a few questions, so that imports overlap.
const QUESTIONS: usize = 8;

/// One operation. Its job, batch or request is chosen among those that exist at that time.
#[derive(Debug, Clone)]
pub enum Op {
    Import {
        digest: i64,
        again: bool,
        rows: Vec<(usize, u8)>,
    },
    ClaimFree {
        most: usize,
    },
    ClaimHeld {
        which: Vec<Index>,
        status: u8,
    },
    Settle {
        which: Index,
        verdict: Verdict,
        code: i64,
        freed: Vec<Index>,
        bad: Option<(Index, Index)>,
    },
    FreeHeld {
        which: Vec<Index>,
    },
    Cancel {
        which: Index,
    },
    Retry {
        code: Option<i64>,
        batch: Option<Index>,
    },
    BeginRun,
    EndRun,
    Prune {
        age: i64,
    },
}

pub fn op() -> impl Strategy<Value = Op> {
    let some = || prop::collection::vec(any::<Index>(), 0..4);
    let code = || prop::sample::select(vec![-50_003_i64, -50_011]);
    let returned = (any::<bool>(), any::<bool>(), any::<bool>());
    let verdict = prop_oneof![
        2 => Just(Verdict::Succeeded),
        1 => Just(Verdict::Failed),
        2 => returned.prop_map(|(held, counts, in_doubt)| Verdict::Returned { held, counts, in_doubt }),
    ];
    prop_oneof![
        3 => (0..6_i64, any::<bool>(), prop::collection::vec((0..QUESTIONS, 4..7_u8), 0..6))
            .prop_map(|(digest, again, rows)| Op::Import { digest, again, rows }),
        6 => (1..5_usize).prop_map(|most| Op::ClaimFree { most }),
        3 => (some(), 4..7_u8).prop_map(|(which, status)| Op::ClaimHeld { which, status }),
        8 => (any::<Index>(), verdict, code(), some(), prop::option::of(any::<(Index, Index)>()))
            .prop_map(|(which, verdict, code, freed, bad)| Op::Settle { which, verdict, code, freed, bad }),
        1 => some().prop_map(|which| Op::FreeHeld { which }),
        1 => any::<Index>().prop_map(|which| Op::Cancel { which }),
        2 => (prop::option::of(code()), prop::option::of(any::<Index>()))
            .prop_map(|(code, batch)| Op::Retry { code, batch }),
        1 => Just(Op::BeginRun),
        1 => Just(Op::EndRun),
        1 => (0..40_i64).prop_map(|age| Op::Prune { age }),
    ]
}
