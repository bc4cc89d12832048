//! Registers that a cipher leaves its round keys in.

#[cfg(target_arch = "x86_64")]
use std::arch::asm;

/// Sets the vector registers to zero, as far as AVX or AVX-512 extends them.
#[cfg(target_arch = "x86_64")]
pub(super) fn clear_vector_registers() {
    if is_x86_feature_detected!("avx") {
        // SAFETY: the instruction exists where AVX does. It changes only registers that are
        // declared as lost, so the compiler keeps nothing in them.
        unsafe {
            asm!(
                "vzeroall",
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _,
                out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _,
                out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _, out("xmm14") _,
                out("xmm15") _,
                options(nomem, nostack, preserves_flags)
            );
        }
    }
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: as above; these registers and the instruction exist where AVX-512 does.
        unsafe {
            asm!(
                ".irp n,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
                "vpxord zmm\\n, zmm\\n, zmm\\n",
                ".endr",
                out("xmm16") _, out("xmm17") _, out("xmm18") _, out("xmm19") _, out("xmm20") _,
                out("xmm21") _, out("xmm22") _, out("xmm23") _, out("xmm24") _, out("xmm25") _,
                out("xmm26") _, out("xmm27") _, out("xmm28") _, out("xmm29") _, out("xmm30") _,
                out("xmm31") _,
                options(nomem, nostack, preserves_flags)
            );
        }
    }
}

/// Other processors keep them: `SECURITY.md` says so.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn clear_vector_registers() {}
