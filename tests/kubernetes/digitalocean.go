package main

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const loadBalancer = "service.beta.kubernetes.io/do-loadbalancer-"

// What DigitalOcean's controller reads, as far as it is used here: it ignores what it does not know
// (docs.digitalocean.com, products/kubernetes/how-to/configure-load-balancers).
var loadBalancerAnnotations = []string{
	"algorithm", "allow-rules", "deny-rules", "enable-backend-keepalive", "healthcheck-path", "healthcheck-port",
	"healthcheck-protocol", "http-idle-timeout-seconds", "name", "override-health-check", "protocol", "size-unit",
}

// Ignored without override-health-check: the balancer asks the nodes, not the pods, since Kubernetes 1.26.
var overriding = []string{"healthcheck-path", "healthcheck-port", "healthcheck-protocol"}

func checkLoadBalancer(manifests Manifests, _ *World, find Find) {
	for title, service := range All[*corev1.Service](manifests) {
		overrides := service.Annotations[loadBalancer+"override-health-check"] == "true"
		for annotation := range service.Annotations {
			name, is := strings.CutPrefix(annotation, loadBalancer)
			if !is {
				continue
			}
			if service.Spec.Type != corev1.ServiceTypeLoadBalancer {
				find(title, "the annotation %s is for a LoadBalancer", annotation)
			}
			if !slices.Contains(loadBalancerAnnotations, name) {
				find(title, "the annotation %s is none that tests/kubernetes/digitalocean.go lists", annotation)
			}
			if slices.Contains(overriding, name) && !overrides {
				find(title, "the annotation %s does nothing without %soverride-health-check", annotation, loadBalancer)
			}
		}
	}
}
