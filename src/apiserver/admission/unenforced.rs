//! Kinds that are served before anything acts on them: their creation says so, and where silence would be a hole it is refused.

use coracle_api::Status;

use super::Request;

/// Group, plural (`*` for all) and what is missing.
const WARNED: [(&str, &str, &str); 7] = [
    ("networking.k8s.io", "networkpolicies", "enforce NetworkPolicy"),
    ("networking.k8s.io", "ingresses", "serve Ingress"),
    ("networking.k8s.io", "ingressclasses", "serve Ingress"),
    ("", "persistentvolumeclaims", "bind PersistentVolumeClaims"),
    ("autoscaling", "*", "run the HorizontalPodAutoscaler controller"),
    ("storage.k8s.io", "storageclasses", "provision volumes"),
    ("flowcontrol.apiserver.k8s.io", "*", "enforce API priority and fairness"),
];

/// Served, but created only when what they promise is kept.
const REFUSED: [(&str, &str); 3] = [
    ("admissionregistration.k8s.io", "admission webhooks and policies"),
    ("apiextensions.k8s.io", "custom resources"),
    ("apiregistration.k8s.io", "aggregated API servers"),
];

pub fn check(request: &Request<'_>, warnings: &mut Vec<String>) -> Result<(), Status> {
    let resource = request.resource;
    if let Some((_, what)) = REFUSED.iter().find(|(group, _)| *group == resource.group) {
        return Err(Status::forbidden(resource, "", format!("coracle does not enforce {what} yet")));
    }
    let row = WARNED
        .iter()
        .find(|(group, plural, _)| *group == resource.group && (*plural == "*" || *plural == resource.plural));
    if let Some((_, _, what)) = row {
        let text = format!("coracle does not {what} yet");
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }
    Ok(())
}
