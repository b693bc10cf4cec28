#include "app/sandbox.h"

#include <linux/io_uring.h>
#include <sched.h>
#include <seccomp.h>

#include <algorithm>
#include <cerrno>
#include <memory>

namespace kiln::app {

namespace {

// AddressSanitizer looks for leaks from a helper process that traces this one.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kLooksForLeaks = true;
#else
constexpr bool kLooksForLeaks = false;
#endif

// Denied whatever their arguments. Those that a processor does not have libseccomp leaves out.
constexpr int kDenied[] = {
    // New rings: what is asked of a ring passes by every filter of system calls.
    SCMP_SYS(io_uring_setup),
    // Other programs. See deny_processes() for clone.
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
    SCMP_SYS(fork),
    SCMP_SYS(vfork),
    // Other processes' memory and descriptors. See deny_processes() for ptrace.
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(process_madvise),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(kcmp),
    // Another view of the file system, or none: mounts, roots, namespaces, devices, files by handle.
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(mount_setattr),
    SCMP_SYS(move_mount),
    SCMP_SYS(open_tree),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsconfig),
    SCMP_SYS(fsmount),
    SCMP_SYS(fspick),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(setns),
    SCMP_SYS(unshare),
    SCMP_SYS(mknod),
    SCMP_SYS(mknodat),
    SCMP_SYS(name_to_handle_at),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(fanotify_init),
    SCMP_SYS(quotactl),
    SCMP_SYS(quotactl_fd),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(acct),
    // Another identity. Capabilities are dropped by whoever starts a container.
    SCMP_SYS(setuid),
    SCMP_SYS(setgid),
    SCMP_SYS(setreuid),
    SCMP_SYS(setregid),
    SCMP_SYS(setresuid),
    SCMP_SYS(setresgid),
    SCMP_SYS(setfsuid),
    SCMP_SYS(setfsgid),
    SCMP_SYS(setgroups),
    SCMP_SYS(capset),
    // The kernel itself, the machine and its clock, and the corners where kernels have been broken into most.
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(reboot),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(clock_adjtime),
    SCMP_SYS(adjtimex),
    SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname),
    SCMP_SYS(syslog),
    SCMP_SYS(vhangup),
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(keyctl),
    SCMP_SYS(personality),
    SCMP_SYS(modify_ldt),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
};

// libseccomp's functions return 0 or a negative errno; the first error stands, and what would follow it is left out.
class Filter {
 public:
  Filter() : context_(seccomp_init(SCMP_ACT_ALLOW), seccomp_release) {
    if (!context_) error_ = -ENOMEM;
  }

  void set(scmp_filter_attr attribute, uint32_t value) {
    if (error_ == 0) error_ = seccomp_attr_set(context_.get(), attribute, value);
  }

  // What a kernel or a libseccomp does not know, it does without.
  void prefer(scmp_filter_attr attribute, uint32_t value) {
    if (error_ == 0) seccomp_attr_set(context_.get(), attribute, value);
  }

  void deny(int call, uint32_t action = SCMP_ACT_ERRNO(EPERM)) {
    if (error_ == 0) error_ = seccomp_rule_add_array(context_.get(), action, call, 0, nullptr);
  }

  void deny_if(int call, const scmp_arg_cmp& argument) {
    if (error_ == 0) error_ = seccomp_rule_add_array(context_.get(), SCMP_ACT_ERRNO(EPERM), call, 1, &argument);
  }

  int load() {
    if (error_ == 0) error_ = seccomp_load(context_.get());
    return error_;
  }

 private:
  std::unique_ptr<void, decltype(&seccomp_release)> context_;
  int error_ = 0;
};

// A thread is a clone as well. clone3 hides its flags behind a pointer, where no filter sees them; glibc takes ENOSYS
// for an older kernel and starts its threads with clone.
void deny_processes(Filter& filter) {
  filter.deny(SCMP_SYS(clone3), SCMP_ACT_ERRNO(ENOSYS));
  if (kLooksForLeaks) return;
  filter.deny_if(SCMP_SYS(clone), {.arg = 0, .op = SCMP_CMP_MASKED_EQ, .datum_a = CLONE_THREAD, .datum_b = 0});
  filter.deny(SCMP_SYS(ptrace));
}

}  // namespace

base::Result<void> install_sandbox() {
  Filter filter;
  filter.set(SCMP_FLTATR_CTL_TSYNC, 1);
  filter.set(SCMP_FLTATR_API_SYSRAWRC, 1);  // the kernel's errno instead of one for all
  // A call of another architecture's table: none here makes one, and a number means something else there.
  filter.set(SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM));
  // Before Linux 5.16 a filter would also switch off speculation past stores and indirect branches for these threads,
  // which costs every one of their instructions; that is meant for sandboxes with code in them that nobody trusts.
  filter.prefer(SCMP_FLTATR_CTL_SSB, 1);
  // Kernels since 5.11 know without running the filter which calls it always allows; for others the rules are a tree.
  filter.prefer(SCMP_FLTATR_CTL_OPTIMIZE, 2);

  for (const int call : kDenied) filter.deny(call);
  deny_processes(filter);
  // A ring ends by giving back its registered descriptor (core/ring.cpp); nothing else is registered any more.
  filter.deny_if(SCMP_SYS(io_uring_register),
                 {.arg = 1, .op = SCMP_CMP_NE, .datum_a = IORING_UNREGISTER_RING_FDS, .datum_b = 0});

  if (const int error = filter.load(); error < 0) return base::system_error("installing a seccomp filter", -error);
  return {};
}

}  // namespace kiln::app
