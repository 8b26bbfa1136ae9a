{{/* What the objects of this chart share. The sidecar itself is in touchline-lib. */}}

{{/* metadata: dict "root" . "name" NAME "labels" MAP "annotations" MAP; "own" MAP has labels that go before all others. */}}
{{- define "touchline.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- merge (dict) (.own | default dict) (fromYaml (include "touchline.labels" .root)) (.labels | default dict) | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The labels of the pods that Services and the rest select. */}}
{{- define "touchline.selector" -}}
{{- if eq .Values.mode "wrap" -}}
{{- if .Values.selector -}}
{{- fail "touchline: selector is for mode: config; with mode: wrap the pods are those of the release" -}}
{{- end -}}
{{- include "touchline.selectorLabels" . -}}
{{- else if .Values.selector -}}
{{- toYaml .Values.selector -}}
{{- else -}}
{{- fail "touchline: selector is empty: with mode: config it has the labels of the pods that are injected, such as { app: coach-backend }" -}}
{{- end -}}
{{- end -}}

{{/* The labels of the pod of `helm test`, which no Service may select. */}}
{{- define "touchline.testLabels" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The port of the backend, as config.ingress.backend has it; empty with a socket. */}}
{{- define "touchline.backendPort" -}}
{{- regexFind ":[0-9]+/?$" ((.Values.config.ingress | default dict).backend | default "") | trimPrefix ":" | trimSuffix "/" -}}
{{- end -}}

{{/*
The ports of Redis, as a list in JSON. An address without one, or from the environment, has the usual one; so has the server
that Sentinels name.
*/}}
{{- define "touchline.redisPorts" -}}
{{- $redis := (.Values.config.cache | default dict).redis | default dict -}}
{{- $ports := list -}}
{{- if and $redis.url (not (hasPrefix "redis+unix:" $redis.url)) -}}
{{- range $address := splitList "," (regexReplaceAll "^[a-z]+://" $redis.url "") -}}
{{- $ports = append $ports (regexFind ":[0-9]+(/[0-9]*)?$" $address | trimPrefix ":" | regexFind "^[0-9]+" | default "6379" | int) -}}
{{- end -}}
{{- if eq ($redis.mode | default "") "sentinel" -}}
{{- $ports = append $ports 6379 -}}
{{- end -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{/* Secrets for pulling, given as names or as objects. */}}
{{- define "touchline.imagePullSecrets" -}}
{{- with concat (.Values.global.imagePullSecrets | default list) .Values.imagePullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ if kindIs "map" . }}{{ .name }}{{ else }}{{ . }}{{ end }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* "yes" if the cluster has the API of the Prometheus Operator. */}}
{{- define "touchline.hasOperator" -}}
{{- if .Capabilities.APIVersions.Has "monitoring.coreos.com/v1" }}yes{{ end -}}
{{- end -}}

{{/* What has to be right whatever is rendered. */}}
{{- define "touchline.checkChart" -}}
{{- include "touchline.check" . -}}
{{- if eq .Values.mode "wrap" -}}
{{- if not .Values.backend.image.repository -}}
{{- fail "touchline: backend.image.repository is empty: it names the image of your application; or set mode: config" -}}
{{- end -}}
{{- if not .Values.config.ingress -}}
{{- fail "touchline: config.ingress is empty, so there is nothing to lead the Service to: set config.ingress.backend; or set mode: config" -}}
{{- end -}}
{{- if and .Values.service.proxied (not (include "touchline.backendPort" .)) -}}
{{- fail "touchline: service.proxied leads the first Service to the backend itself, and config.ingress.backend has no port: give it one, or set service.proxied to false" -}}
{{- end -}}
{{- end -}}
{{- end -}}
