"""The contract that all parts of Atalaya share: resources, manifests, errors. Pure and light; imports no other part."""
