//! How the process deals with the memory that tensors give back.

/// Lets memory that was given back stay with the process, for the next tensor of that size. glibc's own rule hands what is
/// large to the kernel again, which must clear it page by page for every tensor.
pub(crate) fn keep() {
    #[cfg(target_env = "gnu")]
    {
        // In bytes: from where on a block is a mapping of its own, and how much may lie idle at the end.
        let settings =
            [(libc::M_MMAP_THRESHOLD, 1 << 30), (libc::M_TRIM_THRESHOLD, libc::c_int::MAX)];
        for (name, value) in settings {
            // SAFETY: it only sets two numbers of the allocator, which are of a range that it checks itself.
            unsafe { libc::mallopt(name, value) };
        }
    }
}
