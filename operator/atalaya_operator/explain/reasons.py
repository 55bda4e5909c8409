"""Every reason that a model's status may tell, in one place: the word, what it means, and what to do about it.

`docs/troubleshooting.md` has the same table, held equal by a test. In a step, {names} are put in for the model at hand.
"""

from dataclasses import dataclass
from enum import StrEnum


class Family(StrEnum):
    """What a reason is about; conditions follow from it."""

    PROGRESS = "progress"
    SPEC = "spec"
    NODE = "node"
    IMAGE = "image"
    MODEL = "model"
    CONTAINER = "container"
    SCHEDULING = "scheduling"
    PROBE = "probe"


@dataclass(frozen=True)
class Reason:
    """One reason. An empty step: there is nothing to do."""

    word: str
    family: Family
    means: str
    step: str = ""


SERVING = Reason("Serving", Family.PROGRESS, "All wanted pods of the spec answer.")
SCALED_TO_ZERO = Reason("ScaledToZero", Family.PROGRESS, "No pods are asked for.")
LISTING_VERSIONS = Reason(
    "ListingVersions", Family.PROGRESS, "The store is being asked which versions `latest` or `all` are."
)
STARTING = Reason("Starting", Family.PROGRESS, "The first pods do not answer yet; the message says what they are at.")
ROLLING_OUT = Reason(
    "RollingOut", Family.PROGRESS, "The new revision does not answer yet; the one before it serves until it does."
)
PODS_MISSING = Reason("PodsMissing", Family.PROGRESS, "Some pods answer, some do not yet.")

INVALID_SPEC = Reason(
    "InvalidSpec",
    Family.SPEC,
    "The spec contradicts itself, in the words of `atalaya lint`; what served before goes on.",
    "correct the spec and apply it again; atalaya lint checks it",
)
VERSION_UNRESOLVED = Reason(
    "VersionUnresolved",
    Family.SPEC,
    "The pod `<model>-versions` could not ask the store which versions `latest` or `all` are.",
    "mend what the message names, or name the versions with spec.model.versions.specific",
)
NAME_TAKEN = Reason(
    "NameTaken",
    Family.SPEC,
    "An object of somebody else has a name that is needed; it is not touched.",
    "rename the model, or remove what is in its way",
)
OBJECT_REFUSED = Reason(
    "ObjectRefused",
    Family.SPEC,
    "The API server will not have an object, in its words.",
    "correct what the API server names; it is tried again every half minute",
)

NODE_LOST = Reason(
    "NodeLost",
    Family.NODE,
    "The node of a pod is gone, or its kubelet no longer answers.",
    "repair node {node}, or remove it with kubectl delete node {node}: its pods are then made anew elsewhere at once",
)

IMAGE_NOT_FOUND = Reason(
    "ImageNotFound", Family.IMAGE, "The registry has no such image or tag.", "push {image}, or correct {image_field}"
)
IMAGE_PULL_DENIED = Reason(
    "ImagePullDenied",
    Family.IMAGE,
    "The registry wants a login, or refuses the one it was given. Some registries say so of an image that they lack.",
    "check the name of {image}, and give the operator's ATALAYA_IMAGE_PULL_SECRETS a Secret that may pull it",
)
REGISTRY_UNREACHABLE = Reason(
    "RegistryUnreachable",
    Family.IMAGE,
    "The node reaches no registry under the image's name.",
    "check name, port and certificate of the registry of {image} from node {node}; the kubelet tries again by itself",
)
IMAGE_NAME_INVALID = Reason(
    "ImageNameInvalid", Family.IMAGE, "The image's name is none that a registry can have.", "correct {image_field}"
)
IMAGE_MISSING_ON_NODE = Reason(
    "ImageMissingOnNode",
    Family.IMAGE,
    "Images are never pulled here, and the node does not have this one.",
    "load {image} onto node {node}, or let it be pulled with ATALAYA_IMAGE_PULL_POLICY=IfNotPresent",
)
IMAGE_ARCHITECTURE = Reason(
    "ImageArchitecture",
    Family.IMAGE,
    "The image is for another kind of processor than the node has.",
    "build {image} for node {node}'s processor, or name an image that is, in {image_field}",
)
IMAGE_PULL_FAILED = Reason(
    "ImagePullFailed",
    Family.IMAGE,
    "The image could not be pulled, in the node's words.",
    "kubectl describe pod {pod} shows each try; the kubelet tries again by itself",
)
IMAGE_CANNOT_RUN = Reason(
    "ImageCannotRun",
    Family.IMAGE,
    "The image's program is not there or may not be run.",
    "correct the entry point of {image}, or name another image in {image_field}",
)

MODEL_PATH_NOT_FOUND = Reason(
    "ModelPathNotFound",
    Family.MODEL,
    "Where the spec says the model lies there is none, or not the version asked for.",
    "put the version's files below {uri}, or correct spec.model.uri and spec.model.versions; {retry}",
)
MODEL_FILE_CORRUPT = Reason(
    "ModelFileCorrupt",
    Family.MODEL,
    "The model's files are there, and the server cannot read them as a model.",
    "export the model again and put it below {uri} as a new version; {retry}",
)
DIGEST_MISMATCH = Reason(
    "DigestMismatch",
    Family.MODEL,
    "The model's files are not those that the digest or the manifest tells of.",
    "copy the version's folder below {uri} again, whole, with its manifest.yaml; {retry}",
)
BAD_CREDENTIALS = Reason(
    "BadCredentials",
    Family.MODEL,
    "The store refuses the credentials, or wants some and has none.",
    "put the right keys into {secret} (spec.model.credentialsSecret), with the right to read {uri}; {retry}",
)
CREDENTIALS_MISSING = Reason(
    "CredentialsMissing",
    Family.MODEL,
    "The Secret that the spec names is not there, or lacks a key.",
    "create {secret} in namespace {namespace} with the variables that the store's SDK reads",
)
STORE_UNREACHABLE = Reason(
    "StoreUnreachable",
    Family.MODEL,
    "The pod does not reach the store.",
    "check the address in spec.model.uri and in {secret}, and that the cluster's network lets the pod out; {retry}",
)
STORE_UNREADABLE = Reason(
    "StoreUnreadable",
    Family.MODEL,
    "What answers at the model's address is no store whose files can be listed.",
    "correct spec.model.uri; {retry}",
)
MODEL_FILES_REFUSED = Reason(
    "ModelFilesRefused",
    Family.MODEL,
    "Among the model's files is one that is not brought to a server: a link, a pickle, a name that leaves its folder.",
    "take it out of {uri}; {retry}",
)
MODEL_TOO_LARGE = Reason(
    "ModelTooLarge",
    Family.MODEL,
    "The version has more files or bytes than one may have.",
    "keep below {uri} only what the server needs; {retry}",
)
NO_SPACE_LEFT = Reason(
    "NoSpaceLeft",
    Family.MODEL,
    "The volume that the model is fetched into cannot hold it.",
    "free disk on node {node}, or use a smaller model; {retry}",
)
FETCH_FAILED = Reason(
    "FetchFailed",
    Family.MODEL,
    "The model could not be fetched, in the words of the container that fetches it.",
    "kubectl logs {pod} --container fetch tells more; {retry}",
)
DEVICE_UNUSABLE = Reason(
    "DeviceUnusable",
    Family.MODEL,
    "The server was given its device, and cannot compute this model on it.",
    "check the node's driver, or put another device first in spec.devices",
)
VOLUME_NOT_MOUNTED = Reason(
    "VolumeNotMounted",
    Family.MODEL,
    "A volume of the pod cannot be mounted, in the node's words.",
    "mend what the node names; the kubelet tries again by itself",
)

OUT_OF_MEMORY = Reason(
    "OutOfMemory",
    Family.CONTAINER,
    "A container was killed because it took more memory than it may.",
    "raise {memory_field}, now {memory}; a smaller batch, fewer versions or an int8 model take less",
)
CRASH_LOOP = Reason(
    "CrashLoop",
    Family.CONTAINER,
    "A container ends again and again; the message has its own last line.",
    "kubectl logs {pod} --container {container} --previous tells more; correct the spec, the image or the model",
)
CONTAINER_REFUSED = Reason(
    "ContainerRefused",
    Family.CONTAINER,
    "The node cannot make a container as it is described, in the node's words.",
    "mend what the node names; the kubelet tries again by itself",
)
EVICTED = Reason(
    "Evicted",
    Family.CONTAINER,
    "The node ran out of memory or disk and put the pod out.",
    "give the model what it needs in spec.resources.requests, or the node more",
)

QUOTA_EXCEEDED = Reason(
    "QuotaExceeded",
    Family.SCHEDULING,
    "The namespace's ResourceQuota leaves no room for the pods.",
    "raise ResourceQuota {quota} in namespace {namespace}, or ask for less in spec.resources or spec.replicas",
)
PODS_REFUSED = Reason(
    "PodsRefused",
    Family.SCHEDULING,
    "The API server will not have the pods (a policy, a limit range, a webhook), in its words.",
    "correct what it names, in the spec or in namespace {namespace}",
)
NO_NODE_WITH_DEVICE = Reason(
    "NoNodeWithDevice",
    Family.SCHEDULING,
    "No node offers the device.",
    "add a node with {device} (and its device plugin), or add another device to spec.devices",
)
DEVICE_NODES_CLOSED = Reason(
    "DeviceNodesClosed",
    Family.SCHEDULING,
    "Nodes have the device, and none of them takes the pod: cordoned, tainted or not ready.",
    "open one of them: kubectl uncordon, remove the taint, or repair the node",
)
DEVICE_IN_USE = Reason(
    "DeviceInUse",
    Family.SCHEDULING,
    "Every device of the class is taken by other pods.",
    "free a {device}, add a node with one, or add another device to spec.devices",
)
CLAIM_NOT_FOUND = Reason(
    "ClaimNotFound",
    Family.SCHEDULING,
    "The PersistentVolumeClaim of a `pvc://` address is not there.",
    "create the claim in namespace {namespace}, or correct spec.model.uri",
)
CLAIM_UNBOUND = Reason(
    "ClaimUnbound",
    Family.SCHEDULING,
    "The claim has no volume yet.",
    "kubectl describe pvc in namespace {namespace} says what its storage class waits for",
)
NODES_FULL = Reason(
    "NodesFull",
    Family.SCHEDULING,
    "No node has enough processor or memory left for what the model asks.",
    "ask for less in spec.resources.requests, or add a node",
)
NO_NODE_FITS = Reason(
    "NoNodeFits",
    Family.SCHEDULING,
    "No node may take the pod, in the scheduler's words: taints, labels, processors, volumes.",
    "open or add a node that fits; the images of both original servers need kubernetes.io/arch=amd64",
)

PROBE_FAILING = Reason(
    "ProbeFailing",
    Family.PROBE,
    "The model is loaded, and the server does not say that it is ready.",
    "kubectl logs {pod} --container {container} tells what it is at; it gets calls again once its probe succeeds",
)
STALLED = Reason(
    "Stalled",
    Family.CONTAINER,
    "No progress for 15 minutes, and nothing that tells why.",
    "kubectl describe pods --namespace {namespace} --selector {selector}",
)

ALL = tuple(found for found in tuple(globals().values()) if isinstance(found, Reason))
BY_WORD = {one.word: one for one in ALL}
