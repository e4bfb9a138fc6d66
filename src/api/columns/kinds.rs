//! The columns of every kind that has its own, in upstream's order.

use super::{
    AGE, Cell, Column, NAME, autoscaler, bool, column, core, event, int, machinery, made, network, pod, text, text_or,
    workload,
};

const CONTAINERS: Column = made("Containers", workload::containers).wide();
const IMAGES: Column = made("Images", workload::images).wide();
const SELECTOR: Column = made("Selector", workload::selector).wide();

const DESIRED: Column = int("Desired", &["spec", "replicas"]);
const CURRENT: Column = int("Current", &["status", "replicas"]);
const READY: Column = int("Ready", &["status", "readyReplicas"]);

const EVENT: &[Column] = &[
    made("Last Seen", event::last_seen),
    text("Type", &["type"]),
    text("Reason", &["reason"]),
    made("Object", event::object),
    made("Subobject", event::subobject).wide(),
    made("Source", event::source).wide(),
    made("Message", event::message),
    made("First Seen", event::first_seen).wide(),
    made("Count", event::count).wide(),
    NAME.wide(),
];

const BINDING: &[Column] = &[
    NAME,
    made("Role", core::role),
    AGE,
    made("Users", core::users).wide(),
    made("Groups", core::groups).wide(),
    made("ServiceAccounts", core::service_accounts).wide(),
];

const WEBHOOKS: &[Column] = &[NAME, column("Webhooks", "integer", Cell::Length(&["webhooks"])), AGE];
const NAME_AND_AGE: &[Column] = &[NAME, AGE];

const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const STORAGE: &str = "storage.k8s.io";
const NETWORKING: &str = "networking.k8s.io";

/// Group, kind, columns; the versions of a kind share them.
pub(super) static COLUMNS: &[(&str, &str, &[Column])] = &[
    (
        "",
        "Pod",
        &[
            NAME,
            made("Ready", pod::ready),
            made("Status", pod::status),
            made("Restarts", pod::restarts),
            AGE,
            made("IP", pod::address).wide(),
            text_or("Node", &["spec", "nodeName"], "<none>").wide(),
            text_or("Nominated Node", &["status", "nominatedNodeName"], "<none>").wide(),
            made("Readiness Gates", pod::readiness_gates).wide(),
        ],
    ),
    (
        "",
        "PodTemplate",
        &[
            NAME,
            made("Containers", workload::template_containers),
            made("Images", workload::template_images),
            made("Pod Labels", core::template_labels),
        ],
    ),
    (
        "",
        "ReplicationController",
        &[NAME, DESIRED, CURRENT, READY, AGE, CONTAINERS, IMAGES, made("Selector", network::selector).wide()],
    ),
    (
        "",
        "Service",
        &[
            NAME,
            text("Type", &["spec", "type"]),
            made("Cluster-IP", network::cluster_ip),
            made("External-IP", network::external_ip),
            made("Port(s)", network::ports),
            AGE,
            made("Selector", network::selector).wide(),
        ],
    ),
    ("", "Endpoints", &[NAME, made("Endpoints", network::endpoints), AGE]),
    (
        "",
        "Node",
        &[
            NAME,
            made("Status", core::node_status),
            made("Roles", core::node_roles),
            AGE,
            text("Version", &["status", "nodeInfo", "kubeletVersion"]),
            made("Internal-IP", core::node_internal_ip).wide(),
            made("External-IP", core::node_external_ip).wide(),
            text_or("OS-Image", &["status", "nodeInfo", "osImage"], "<unknown>").wide(),
            made("Kernel-Version", core::node_kernel).wide(),
            text_or("Container-Runtime", &["status", "nodeInfo", "containerRuntimeVersion"], "<unknown>").wide(),
        ],
    ),
    ("", "Event", EVENT),
    ("events.k8s.io", "Event", EVENT),
    (
        "",
        "ComponentStatus",
        &[
            NAME,
            made("Status", machinery::component_state),
            made("Message", machinery::component_message),
            made("Error", machinery::component_error),
        ],
    ),
    (
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        &[
            NAME,
            text("Scope", &["spec", "scope"]),
            made("Versions", machinery::served_versions),
            text("Created At", &["metadata", "creationTimestamp"]).of_type("date"),
            text("Group", &["spec", "group"]).wide(),
            text("Kind", &["spec", "names", "kind"]).wide(),
            made("ShortNames", machinery::short_names).wide(),
            made("Established", machinery::established).of_type("boolean").wide(),
        ],
    ),
    (
        "apiregistration.k8s.io",
        "APIService",
        &[NAME, made("Service", machinery::service), made("Available", machinery::available), AGE],
    ),
    (
        "autoscaling",
        "Scale",
        &[text("Name", &["metadata", "name"]), DESIRED, int("Available", &["status", "replicas"]), AGE],
    ),
    (
        "certificates.k8s.io",
        "PodCertificateRequest",
        &[
            NAME,
            text("PodName", &["spec", "podName"]),
            text("ServiceAccountName", &["spec", "serviceAccountName"]),
            text("NodeName", &["spec", "nodeName"]),
            text("SignerName", &["spec", "signerName"]),
            made("State", machinery::certificate_state),
            made("UnverifiedUserAnnotations", machinery::user_annotations),
        ],
    ),
    (
        "resource.k8s.io",
        "DeviceTaintRule",
        &[
            NAME,
            text("Key", &["spec", "taint", "key"]),
            text("Value", &["spec", "taint", "value"]),
            text("Effect", &["spec", "taint", "effect"]),
            made("TimeAdded", core::taint_added),
            AGE,
        ],
    ),
    (
        "storagemigration.k8s.io",
        "StorageVersionMigration",
        &[
            text("Name", &["metadata", "name"]),
            made("Resource", machinery::migrated),
            made("Status", machinery::migration_state),
        ],
    ),
    ("", "Namespace", &[NAME, text("Status", &["status", "phase"]), AGE]),
    ("", "Secret", &[NAME, text("Type", &["type"]), column("Data", "string", Cell::Length(&["data"])), AGE]),
    ("", "ServiceAccount", NAME_AND_AGE),
    ("", "ConfigMap", &[NAME, made("Data", core::config_map_data), AGE]),
    (
        "",
        "PersistentVolume",
        &[
            NAME,
            made("Capacity", core::volume_capacity),
            made("Access Modes", core::volume_modes),
            text("Reclaim Policy", &["spec", "persistentVolumeReclaimPolicy"]),
            made("Status", core::phase),
            made("Claim", core::volume_claim),
            made("StorageClass", core::storage_class),
            text_or("VolumeAttributesClass", &["spec", "volumeAttributesClassName"], "<unset>"),
            text("Reason", &["status", "reason"]),
            AGE,
            text_or("VolumeMode", &["spec", "volumeMode"], "<unset>").wide(),
        ],
    ),
    (
        "",
        "PersistentVolumeClaim",
        &[
            NAME,
            made("Status", core::phase),
            text("Volume", &["spec", "volumeName"]),
            made("Capacity", core::claim_capacity),
            made("Access Modes", core::claim_modes),
            made("StorageClass", core::storage_class),
            text_or("VolumeAttributesClass", &["spec", "volumeAttributesClassName"], "<unset>"),
            AGE,
            text_or("VolumeMode", &["spec", "volumeMode"], "<unset>").wide(),
        ],
    ),
    ("", "ResourceQuota", &[NAME, made("Request", core::quota_requests), made("Limit", core::quota_limits), AGE]),
    (
        ADMISSION,
        "ValidatingAdmissionPolicy",
        &[
            NAME,
            column("Validations", "integer", Cell::Length(&["spec", "validations"])),
            made("ParamKind", core::parameter_kind),
            AGE,
        ],
    ),
    (
        ADMISSION,
        "MutatingAdmissionPolicy",
        &[
            NAME,
            column("Mutations", "integer", Cell::Length(&["spec", "mutations"])),
            made("ParamKind", core::parameter_kind),
            AGE,
        ],
    ),
    (
        ADMISSION,
        "ValidatingAdmissionPolicyBinding",
        &[NAME, text("PolicyName", &["spec", "policyName"]), made("ParamRef", core::parameter_reference), AGE],
    ),
    (
        ADMISSION,
        "MutatingAdmissionPolicyBinding",
        &[NAME, text("PolicyName", &["spec", "policyName"]), made("ParamRef", core::parameter_reference), AGE],
    ),
    (ADMISSION, "MutatingWebhookConfiguration", WEBHOOKS),
    (ADMISSION, "ValidatingWebhookConfiguration", WEBHOOKS),
    (
        "apps",
        "ControllerRevision",
        &[NAME, made("Controller", core::controller), int("Revision", &["revision"]).of_type("string"), AGE],
    ),
    (
        "apps",
        "DaemonSet",
        &[
            NAME,
            int("Desired", &["status", "desiredNumberScheduled"]),
            int("Current", &["status", "currentNumberScheduled"]),
            int("Ready", &["status", "numberReady"]),
            int("Up-to-date", &["status", "updatedNumberScheduled"]),
            int("Available", &["status", "numberAvailable"]),
            made("Node Selector", workload::node_selector),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
    ),
    (
        "apps",
        "Deployment",
        &[
            NAME,
            made("Ready", workload::ready),
            int("Up-to-date", &["status", "updatedReplicas"]).of_type("string"),
            int("Available", &["status", "availableReplicas"]).of_type("string"),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
    ),
    ("apps", "ReplicaSet", &[NAME, DESIRED, CURRENT, READY, AGE, CONTAINERS, IMAGES, SELECTOR]),
    ("apps", "StatefulSet", &[NAME, made("Ready", workload::ready), AGE, CONTAINERS, IMAGES]),
    (
        "autoscaling",
        "HorizontalPodAutoscaler",
        &[
            NAME,
            made("Reference", autoscaler::reference),
            made("Targets", autoscaler::targets),
            made("MinPods", autoscaler::minimum),
            int("MaxPods", &["spec", "maxReplicas"]).of_type("string"),
            int("Replicas", &["status", "currentReplicas"]).of_type("string"),
            AGE,
        ],
    ),
    (
        "batch",
        "CronJob",
        &[
            NAME,
            text("Schedule", &["spec", "schedule"]),
            text_or("Timezone", &["spec", "timeZone"], "<none>"),
            made("Suspend", workload::suspended).of_type("boolean"),
            column("Active", "integer", Cell::Length(&["status", "active"])),
            made("Last Schedule", workload::last_schedule),
            AGE,
            made("Containers", workload::cron_containers).wide(),
            made("Images", workload::cron_images).wide(),
            made("Selector", workload::cron_selector).wide(),
        ],
    ),
    (
        "batch",
        "Job",
        &[
            NAME,
            made("Status", workload::job_status),
            made("Completions", workload::completions),
            made("Duration", workload::job_duration),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
    ),
    (
        "certificates.k8s.io",
        "CertificateSigningRequest",
        &[
            NAME,
            AGE,
            text_or("SignerName", &["spec", "signerName"], "<none>"),
            text("Requestor", &["spec", "username"]),
            made("RequestedDuration", core::signing_duration),
            made("Condition", core::signing_state),
        ],
    ),
    ("certificates.k8s.io", "ClusterTrustBundle", &[NAME, text_or("SignerName", &["spec", "signerName"], "<none>")]),
    ("coordination.k8s.io", "Lease", &[NAME, text("Holder", &["spec", "holderIdentity"]), AGE]),
    (
        "discovery.k8s.io",
        "EndpointSlice",
        &[
            NAME,
            text("AddressType", &["addressType"]),
            made("Ports", network::slice_ports),
            made("Endpoints", network::slice_endpoints),
            AGE,
        ],
    ),
    (
        "flowcontrol.apiserver.k8s.io",
        "FlowSchema",
        &[
            NAME,
            text("PriorityLevel", &["spec", "priorityLevelConfiguration", "name"]),
            int("MatchingPrecedence", &["spec", "matchingPrecedence"]).of_type("string"),
            text_or("DistinguisherMethod", &["spec", "distinguisherMethod", "type"], "<none>"),
            AGE,
            made("MissingPL", core::dangling),
        ],
    ),
    (
        "flowcontrol.apiserver.k8s.io",
        "PriorityLevelConfiguration",
        &[
            NAME,
            text("Type", &["spec", "type"]),
            made("NominalConcurrencyShares", core::priority_shares),
            made("Queues", core::priority_queues),
            made("HandSize", core::priority_hand),
            made("QueueLengthLimit", core::priority_limit),
            AGE,
        ],
    ),
    (
        NETWORKING,
        "Ingress",
        &[
            NAME,
            text_or("Class", &["spec", "ingressClassName"], "<none>"),
            made("Hosts", network::ingress_hosts),
            made("Address", network::ingress_address),
            made("Ports", network::ingress_ports),
            AGE,
        ],
    ),
    (
        NETWORKING,
        "IngressClass",
        &[
            Column { format: "name", ..made("Name", network::class_name) },
            text("Controller", &["spec", "controller"]),
            made("Parameters", network::class_parameters),
            AGE,
        ],
    ),
    (NETWORKING, "IPAddress", &[NAME, made("ParentRef", network::address_parent), AGE]),
    (NETWORKING, "NetworkPolicy", &[NAME, made("Pod-Selector", network::pod_selector), AGE]),
    (NETWORKING, "ServiceCIDR", &[NAME, made("CIDRs", network::ranges), AGE]),
    ("node.k8s.io", "RuntimeClass", &[NAME, text("Handler", &["handler"]), AGE]),
    (
        "policy",
        "PodDisruptionBudget",
        &[
            NAME,
            made("Min Available", core::budget_minimum),
            made("Max Unavailable", core::budget_maximum),
            int("Allowed Disruptions", &["status", "disruptionsAllowed"]),
            AGE,
        ],
    ),
    (RBAC, "ClusterRoleBinding", BINDING),
    (RBAC, "RoleBinding", BINDING),
    ("resource.k8s.io", "DeviceClass", NAME_AND_AGE),
    ("resource.k8s.io", "ResourceClaim", &[NAME, made("State", core::claim_state), AGE]),
    ("resource.k8s.io", "ResourceClaimTemplate", NAME_AND_AGE),
    (
        "resource.k8s.io",
        "ResourceSlice",
        &[
            NAME,
            text("Node", &["spec", "nodeName"]),
            text("Driver", &["spec", "driver"]),
            text("Pool", &["spec", "pool", "name"]),
            AGE,
        ],
    ),
    (
        "scheduling.k8s.io",
        "PriorityClass",
        &[
            NAME,
            int("Value", &["value"]),
            bool("Global-Default", &["globalDefault"], false),
            AGE,
            text("PreemptionPolicy", &["preemptionPolicy"]),
        ],
    ),
    (
        STORAGE,
        "CSIDriver",
        &[
            NAME,
            bool("AttachRequired", &["spec", "attachRequired"], true),
            bool("PodInfoOnMount", &["spec", "podInfoOnMount"], false),
            bool("StorageCapacity", &["spec", "storageCapacity"], false),
            made("TokenRequests", core::audiences),
            bool("RequiresRepublish", &["spec", "requiresRepublish"], false),
            made("Modes", core::lifecycle_modes),
            AGE,
        ],
    ),
    (STORAGE, "CSINode", &[NAME, column("Drivers", "integer", Cell::Length(&["spec", "drivers"])), AGE]),
    (
        STORAGE,
        "StorageClass",
        &[
            NAME,
            text("Provisioner", &["provisioner"]),
            text_or("ReclaimPolicy", &["reclaimPolicy"], "Delete"),
            text_or("VolumeBindingMode", &["volumeBindingMode"], "Immediate"),
            bool("AllowVolumeExpansion", &["allowVolumeExpansion"], false).of_type("string"),
            AGE,
        ],
    ),
    (
        STORAGE,
        "VolumeAttachment",
        &[
            NAME,
            Column { format: "name", ..text("Attacher", &["spec", "attacher"]) },
            text("PV", &["spec", "source", "persistentVolumeName"]),
            text("Node", &["spec", "nodeName"]),
            bool("Attached", &["status", "attached"], false),
            AGE,
        ],
    ),
    (STORAGE, "VolumeAttributesClass", &[NAME, text("DriverName", &["driverName"]), AGE]),
];
