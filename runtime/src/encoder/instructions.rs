//! Which instruction set the encoder is compiled for at run time.
//!
//! Invariant: an [`Instructions`] exists only for a set that this processor runs, so whoever holds one may call the
//! functions compiled for it.

use rten_simd::SimdOp;
use rten_simd::isa::GenericIsa;
#[cfg(target_arch = "x86_64")]
use rten_simd::isa::{Avx2Isa, Avx512Isa};

/// The instruction sets that the int8 encoder has code of its own for.
///
/// All of them sum the same integers; floating-point sums differ by the order of additions, and a value that is rounded the
/// other way after that is a whole step of eight bits away. The hidden states of a token have a cosine of more than 0.998
/// between any two sets, on one set they are equal to the last bit in any company and on any number of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstructionSet {
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI: 64 products of bytes an instruction.
    Avx512Vnni,
    /// x86-64 with AVX2, FMA and AVX-VNNI: 32 products of bytes an instruction.
    AvxVnni,
    /// x86-64 with AVX2 and FMA: 16 products an instruction, in 16 bits because the byte instruction saturates.
    Avx2,
    /// What rten-gemm and rten-simd choose: the dot-product instructions of Arm, or none.
    Portable,
}

impl InstructionSet {
    /// All of them, the fastest first.
    pub const ALL: [Self; 4] = [Self::Avx512Vnni, Self::AvxVnni, Self::Avx2, Self::Portable];

    /// The fastest that this processor runs.
    pub fn detect() -> Self {
        Self::ALL.into_iter().find(|set| set.is_available()).unwrap_or(Self::Portable)
    }

    /// Whether this processor runs it.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = Avx2Isa::new().is_some();
            match self {
                Self::Avx512Vnni => {
                    avx2 && Avx512Isa::new().is_some() && std::arch::is_x86_feature_detected!("avx512vnni")
                }
                Self::AvxVnni => avx2 && std::arch::is_x86_feature_detected!("avxvnni"),
                Self::Avx2 => avx2,
                Self::Portable => true,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Portable
        }
    }
}

/// An instruction set that this processor was found to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instructions(InstructionSet);

impl Instructions {
    pub(super) fn new(set: InstructionSet) -> Option<Self> {
        set.is_available().then_some(Self(set))
    }

    /// What every processor runs.
    pub(super) fn portable() -> Self {
        Self(InstructionSet::Portable)
    }

    pub(super) fn set(self) -> InstructionSet {
        self.0
    }

    /// Runs a pass, compiled for this set.
    pub(super) fn run<Op: SimdOp>(self, op: Op) -> Op::Output {
        #[cfg(target_arch = "x86_64")]
        match self.0 {
            InstructionSet::Avx512Vnni => {
                if let Some(isa) = Avx512Isa::new() {
                    // SAFETY: the isa exists, so the processor has these features.
                    return unsafe { with_avx512(isa, op) };
                }
            }
            InstructionSet::AvxVnni | InstructionSet::Avx2 => {
                if let Some(isa) = Avx2Isa::new() {
                    // SAFETY: as above.
                    return unsafe { with_avx2(isa, op) };
                }
            }
            InstructionSet::Portable => return op.dispatch(),
        }
        if self.0 == InstructionSet::Portable { op.dispatch() } else { op.eval(GenericIsa::new()) }
    }
}

/// # Safety
/// The processor has the features named here.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
unsafe fn with_avx512<Op: SimdOp>(isa: Avx512Isa, op: Op) -> Op::Output {
    op.eval(isa)
}

/// # Safety
/// The processor has the features named here.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn with_avx2<Op: SimdOp>(isa: Avx2Isa, op: Op) -> Op::Output {
    op.eval(isa)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portable_set_is_always_there_and_the_detected_one_too() {
        assert!(InstructionSet::Portable.is_available());
        assert!(InstructionSet::detect().is_available());
        assert!(Instructions::new(InstructionSet::detect()).is_some());
    }
}
