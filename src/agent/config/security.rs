//! Security contexts of pods and containers as the runtime takes them (upstream: kuberuntime/security_context.go).

use std::path::Path;

use k8s_openapi::api::core::v1::{AppArmorProfile, Capabilities, Container, Pod, SELinuxOptions, SeccompProfile};

use crate::pod::PodExt;
use crate::proto::cri as wire;
use wire::NamespaceMode;

/// Which namespaces the pod shares with the node or among its containers.
pub fn namespaces(pod: &Pod) -> wire::NamespaceOption {
    let spec = pod.spec();
    let mode =
        |host: Option<bool>, own: NamespaceMode| if host == Some(true) { NamespaceMode::Node } else { own } as i32;
    let pid = if spec.share_process_namespace == Some(true) { NamespaceMode::Pod } else { NamespaceMode::Container };
    wire::NamespaceOption {
        network: mode(spec.host_network, NamespaceMode::Pod),
        pid: mode(spec.host_pid, pid),
        ipc: mode(spec.host_ipc, NamespaceMode::Pod),
        target_id: String::new(),
    }
}

/// The sandbox runs as what the pod says, under the runtime's default filter.
pub fn sandbox(pod: &Pod) -> wire::LinuxSandboxSecurityContext {
    let context = pod.spec().security_context.clone().unwrap_or_default();
    let all = || pod.spec().containers.iter().chain(pod.init_containers());
    let is_privileged = |container: &Container| {
        container.security_context.as_ref().and_then(|context| context.privileged) == Some(true)
    };
    wire::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        run_as_user: context.run_as_user.map(number),
        run_as_group: context.run_as_group.filter(|_| context.run_as_user.is_some()).map(number),
        supplemental_groups: groups(pod),
        supplemental_groups_policy: group_policy(pod),
        privileged: all().any(is_privileged),
        selinux_options: context.se_linux_options.as_ref().map(selinux),
        seccomp: Some(profile(wire::security_profile::ProfileType::RuntimeDefault)),
        ..Default::default()
    }
}

/// What is masked from, and read-only to, a container that is not privileged: runc's defaults
/// (moby's oci/defaults.go, which upstream follows).
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// `target` is the container whose processes an ephemeral one sees; `profiles` the directory of local seccomp profiles.
pub fn container(
    pod: &Pod,
    container: &Container,
    target: Option<&str>,
    profiles: &Path,
) -> wire::LinuxContainerSecurityContext {
    let of_pod = pod.spec().security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let privileged = own.privileged.unwrap_or(false);
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked") || privileged;
    let paths =
        |paths: &[&str]| if unmasked { Vec::new() } else { paths.iter().map(|path| (*path).to_owned()).collect() };
    let user = own.run_as_user.or(of_pod.run_as_user);
    let mut namespaces = namespaces(pod);
    if let Some(target) = target.filter(|_| namespaces.pid == NamespaceMode::Container as i32) {
        namespaces.pid = NamespaceMode::Target as i32;
        namespaces.target_id = target.to_owned();
    }
    wire::LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(capabilities),
        privileged,
        namespace_options: Some(namespaces),
        selinux_options: own.se_linux_options.as_ref().or(of_pod.se_linux_options.as_ref()).map(selinux),
        run_as_user: user.map(number),
        run_as_group: own.run_as_group.or(of_pod.run_as_group).map(number),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups(pod),
        supplemental_groups_policy: group_policy(pod),
        no_new_privs: own.allow_privilege_escalation == Some(false) && !privileged,
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp(own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref()), privileged, profiles)),
        apparmor: own.app_armor_profile.as_ref().or(of_pod.app_armor_profile.as_ref()).map(app_armor),
        ..Default::default()
    }
}

fn selinux(options: &SELinuxOptions) -> wire::SeLinuxOption {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    wire::SeLinuxOption {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    }
}

fn app_armor(wanted: &AppArmorProfile) -> wire::SecurityProfile {
    use wire::security_profile::ProfileType;
    match wanted.type_.as_str() {
        "Unconfined" => profile(ProfileType::Unconfined),
        "Localhost" => wire::SecurityProfile {
            localhost_ref: wanted.localhost_profile.clone().unwrap_or_default(),
            ..profile(ProfileType::Localhost)
        },
        _ => profile(ProfileType::RuntimeDefault),
    }
}

/// Without a word of the pod the runtime's own filter applies: safe by default.
fn seccomp(wanted: Option<&SeccompProfile>, privileged: bool, profiles: &Path) -> wire::SecurityProfile {
    use wire::security_profile::ProfileType;
    match wanted.map(|profile| profile.type_.as_str()) {
        Some("Unconfined") => profile(ProfileType::Unconfined),
        Some("Localhost") => wire::SecurityProfile {
            localhost_ref: wanted
                .and_then(|profile| profile.localhost_profile.as_ref())
                .map(|name| profiles.join(name).to_string_lossy().into_owned())
                .unwrap_or_default(),
            ..profile(ProfileType::Localhost)
        },
        _ if privileged => profile(ProfileType::Unconfined),
        _ => profile(ProfileType::RuntimeDefault),
    }
}

fn profile(kind: wire::security_profile::ProfileType) -> wire::SecurityProfile {
    wire::SecurityProfile { profile_type: kind as i32, localhost_ref: String::new() }
}

fn capabilities(wanted: &Capabilities) -> wire::Capability {
    wire::Capability {
        add_capabilities: wanted.add.clone().unwrap_or_default(),
        drop_capabilities: wanted.drop.clone().unwrap_or_default(),
        add_ambient_capabilities: Vec::new(),
    }
}

fn groups(pod: &Pod) -> Vec<i64> {
    let Some(context) = &pod.spec().security_context else { return Vec::new() };
    context.fs_group.into_iter().chain(context.supplemental_groups.iter().flatten().copied()).collect()
}

fn group_policy(pod: &Pod) -> i32 {
    let policy = pod.spec().security_context.as_ref().and_then(|context| context.supplemental_groups_policy.as_deref());
    let strict = policy == Some("Strict");
    (if strict { wire::SupplementalGroupsPolicy::Strict } else { wire::SupplementalGroupsPolicy::Merge }) as i32
}

fn number(value: i64) -> wire::Int64Value {
    wire::Int64Value { value }
}
