//! Security contexts of pods and containers. Upstream: pkg/apis/core/validation ValidateSecurityContext, validatePodSpecSecurityContext.

use std::sync::LazyLock;

use regex::Regex;

use crate::causes::Causes;
use crate::names;
use crate::node::Node;
use crate::validation::checks::{Seen, descending, each};

const MAX_ID: i64 = i32::MAX as i64;
const PROFILE_TYPES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
/// Bytes: PATH_MAX without its NUL.
const MAX_PROFILE: usize = 4095;

pub(super) fn of_pod(spec: Node<'_, '_>, causes: &mut Causes) {
    let context = spec.get("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        context.get(field).in_range(0, MAX_ID, causes);
    }
    for group in context.get("supplementalGroups").items() {
        group.in_range(0, MAX_ID, causes);
    }
    sysctls(spec, context.get("sysctls"), causes);
    context.get("fsGroupChangePolicy").one_of_if_present(&["Always", "OnRootMismatch"], causes);
    profiles(context, causes);
    context.get("supplementalGroupsPolicy").one_of_if_present(&["Merge", "Strict"], causes);
    context.get("seLinuxChangePolicy").one_of_if_present(&["MountOption", "Recursive"], causes);
}

/// `shares_users`: whether the pod runs in the host's user namespace.
pub(super) fn of_container(container: Node<'_, '_>, shares_users: bool, causes: &mut Causes) {
    let context = container.get("securityContext");
    for field in ["runAsUser", "runAsGroup"] {
        context.get(field).in_range(0, MAX_ID, causes);
    }
    let mount = context.get("procMount");
    mount.one_of_if_present(&["Default", "Unmasked"], causes);
    if shares_users && mount.str() == "Unmasked" {
        mount.invalid(causes, "`hostUsers` must be false to use `Unmasked`");
    }
    profiles(context, causes);
    if context.get("allowPrivilegeEscalation").value() != Some(&false.into()) {
        return;
    }
    if context.get("privileged").bool() {
        context.invalid(causes, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
    }
    for capability in context.get("capabilities").get("add").items() {
        if capability.str() == "CAP_SYS_ADMIN" {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            context.invalid(causes, why);
        }
    }
}

fn profiles(context: Node<'_, '_>, causes: &mut Causes) {
    let seccomp = context.get("seccompProfile");
    if seccomp.is_present() {
        let (kind, local) = (seccomp.get("type"), seccomp.get("localhostProfile"));
        profile_type(kind, "type is required when seccompProfile is set", causes);
        match (kind.str() == "Localhost", local.is_present()) {
            (true, false) => local.required(causes, "must be set when seccomp type is Localhost"),
            (true, true) => each(local, descending(local.str()), causes),
            (false, true) => {
                let shown = seccomp.value().cloned().unwrap_or_default();
                causes.invalid(local.path(), shown, "can only be set when seccomp type is Localhost");
            }
            (false, false) => {}
        }
    }
    windows(context.get("windowsOptions"), causes);
    let armor = context.get("appArmorProfile");
    if armor.is_absent() {
        return;
    }
    let (kind, local) = (armor.get("type"), armor.get("localhostProfile"));
    profile_type(kind, "type is required when appArmorProfile is set", causes);
    match kind.str() {
        "Localhost" => {
            let text = local.str();
            if text.trim() != text {
                local.invalid(causes, "must not be padded with whitespace");
            } else if text.is_empty() {
                local.required(causes, "must be set when AppArmor type is Localhost");
            }
            if text.len() > MAX_PROFILE {
                local.too_long(causes, MAX_PROFILE);
            }
        }
        "RuntimeDefault" | "Unconfined" if local.is_present() => {
            local.invalid(causes, "can only be set when AppArmor type is Localhost");
        }
        _ => {}
    }
}

fn profile_type(kind: Node<'_, '_>, why: &str, causes: &mut Causes) {
    if kind.is_empty() {
        kind.required(causes, why);
    } else {
        kind.one_of(PROFILE_TYPES, causes);
    }
}

const SYSCTL: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
const SYSCTL_MAX: usize = 253;
static SYSCTL_NAME: LazyLock<Regex> = LazyLock::new(|| regex(SYSCTL));

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is constant")
}

fn sysctls(spec: Node<'_, '_>, sysctls: Node<'_, '_>, causes: &mut Causes) {
    let mut seen = Seen::new();
    for sysctl in sysctls.items() {
        let name = sysctl.get("name");
        let text = name.str();
        if text.is_empty() {
            name.required(causes, "");
        } else if text.len() > SYSCTL_MAX || !SYSCTL_NAME.is_match(text) {
            let why = format!("must have at most {SYSCTL_MAX} characters and match regex {SYSCTL}");
            name.invalid(causes, why);
        } else if seen.contains(text) {
            name.duplicate(causes);
        }
        seen.insert(text);
        let host = match namespace(text) {
            Some(Namespace::Network) => "hostNetwork",
            Some(Namespace::Ipc) => "hostIPC",
            None => continue,
        };
        if spec.get(host).bool() {
            name.invalid(causes, format!("may not be specified when '{host}' is true"));
        }
    }
}

enum Namespace {
    Network,
    Ipc,
}

/// Upstream: k8s.io/component-helpers node/util/sysctl.
fn namespace(sysctl: &str) -> Option<Namespace> {
    // Slashes separate, where the first separator is one.
    let dot_first = sysctl.find(['.', '/']).is_some_and(|place| sysctl.as_bytes()[place] == b'.');
    let swap = |letter: char| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let name: String = if dot_first { sysctl.to_owned() } else { sysctl.chars().map(swap).collect() };
    let name = name.split('*').next().unwrap_or_default();
    let ipc = ["sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced", "shm", "msgmax", "msgmnb", "msgmni", "msg"];
    if name.strip_prefix("kernel.").is_some_and(|rest| ipc.contains(&rest)) || name.starts_with("fs.mqueue.") {
        return Some(Namespace::Ipc);
    }
    name.starts_with("net.").then_some(Namespace::Network)
}

const MAX_CREDENTIAL: usize = 64 * 1024;
const MAX_DOMAIN: usize = 256;
const MAX_USER: usize = 104;
static NETBIOS: LazyLock<Regex> = LazyLock::new(|| regex(r#"^[^\\/:\*\?"<>|\.][^\\/:\*\?"<>|]{0,14}$"#));
static DOMAIN: LazyLock<Regex> = LazyLock::new(|| {
    let label = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?";
    regex(&format!(r"^{label}(?:\.{label})*$"))
});

fn windows(options: Node<'_, '_>, causes: &mut Causes) {
    let (name, credential, user) =
        (options.get("gmsaCredentialSpecName"), options.get("gmsaCredentialSpec"), options.get("runAsUserName"));
    if name.is_present() {
        name.keep(names::dns_1123_subdomain, causes);
    }
    if credential.is_present() && credential.is_empty() {
        credential.invalid(causes, "gmsaCredentialSpec cannot be an empty string");
    } else if credential.str().len() > MAX_CREDENTIAL {
        credential.invalid(causes, "gmsaCredentialSpec size must be under 64 KiB");
    }
    if user.is_present() {
        each(user, user_name(user.str()), causes);
    }
}

fn user_name(text: &str) -> Vec<&'static str> {
    if text.is_empty() {
        return vec!["runAsUserName cannot be an empty string"];
    }
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters"];
    }
    let (domain, user) = match text.split('\\').collect::<Vec<_>>()[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return vec!["runAsUserName cannot contain more than one backslash"],
    };
    let mut messages = Vec::new();
    if let Some(domain) = domain {
        if domain.len() >= MAX_DOMAIN {
            messages.push("runAsUserName's Domain length must be under 256 characters");
        }
        if !NETBIOS.is_match(domain) && !DOMAIN.is_match(domain) {
            messages.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
        }
    }
    if user.is_empty() {
        messages.push("runAsUserName's User cannot be empty");
    } else if user.len() > MAX_USER {
        messages.push("runAsUserName's User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.bytes().all(|byte| matches!(byte, b'.' | b' ')) {
        messages.push("runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        messages.push("runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]");
    }
    messages
}

/// All containers of a pod are the host's processes, or none is.
pub(super) fn host_processes(spec: Node<'_, '_>, causes: &mut Causes) {
    let wish = |of: Node<'_, '_>| -> Option<bool> {
        let context = of.get("securityContext");
        let options = context.get("windowsOptions");
        options.get("hostProcess").value().and_then(serde_json::Value::as_bool)
    };
    let of_pod = wish(spec);
    let (mut all, mut count) = (0, 0);
    super::visit_containers(spec, &mut |container| {
        all += 1;
        let own = wish(container);
        if let (Some(pod), Some(own)) = (of_pod, own)
            && pod != own
        {
            let path = container.path_of("securityContext.windowsOptions.hostProcess");
            let why = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            causes.invalid(path, own, why);
        }
        count += usize::from(own.or(of_pod).unwrap_or(false));
    });
    if count == 0 {
        return;
    }
    if count != all {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        causes.invalid(spec.path(), "", why);
    }
    if !spec.get("hostNetwork").bool() {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        causes.invalid(spec.get("hostNetwork").path(), false, why);
    }
}

/// What a pod's operating system does not have.
pub(super) fn of_system(spec: Node<'_, '_>, causes: &mut Causes) {
    let (system, context) = (spec.get("os"), spec.get("securityContext"));
    if system.is_absent() {
        return;
    }
    let name = system.get("name").str();
    match name {
        "" => system.get("name").required(causes, ""),
        "linux" => {
            let why = "windows options cannot be set for a linux pod";
            context.forbid(&["windowsOptions"], why, causes);
            super::visit_containers(spec, &mut |container| {
                container.get("securityContext").forbid(&["windowsOptions"], why, causes);
            });
        }
        "windows" => {
            let why = "cannot be set for a windows pod";
            context.forbid(
                &[
                    "appArmorProfile",
                    "seLinuxOptions",
                    "seccompProfile",
                    "fsGroup",
                    "fsGroupChangePolicy",
                    "sysctls",
                    "runAsUser",
                    "runAsGroup",
                    "supplementalGroups",
                    "supplementalGroupsPolicy",
                    "seLinuxChangePolicy",
                ],
                why,
                causes,
            );
            spec.forbid(&["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"], why, causes);
            super::visit_containers(spec, &mut |container| {
                let fields = [
                    "appArmorProfile",
                    "seLinuxOptions",
                    "seccompProfile",
                    "capabilities",
                    "readOnlyRootFilesystem",
                    "privileged",
                    "allowPrivilegeEscalation",
                    "procMount",
                    "runAsUser",
                    "runAsGroup",
                ];
                container.get("securityContext").forbid(&fields, why, causes);
            });
        }
        _ => causes.not_supported(system.path(), name, &["linux", "windows"]),
    }
}

/// A pod with users of its own shares none of the host's other namespaces.
pub(super) fn host_users(spec: Node<'_, '_>, causes: &mut Causes) {
    if spec.get("hostUsers").value() != Some(&false.into()) {
        return;
    }
    let why = "when `hostUsers` is false";
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.get(field).bool() {
            causes.forbidden(spec.path_of(shown), why);
        }
    }
    super::visit_containers(spec, &mut |container| {
        if !container.get("volumeDevices").is_empty() {
            container.get("volumeDevices").forbidden(causes, why);
        }
    });
}
