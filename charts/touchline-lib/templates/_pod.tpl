{{/* What goes into a pod, for any chart. README.md shows where each of them stands. */}}

{{/* Annotations of the pod. */}}
{{- define "touchline.annotations" -}}
{{- $v := .Values.touchline | default .Values -}}
{{- include "touchline.checkAlias" . -}}
kubectl.kubernetes.io/default-container: {{ $v.backendContainer }}
touchline/injected-version: {{ include "touchline.version" . | quote }}
{{- if eq $v.reload.strategy "rollout" }}
checksum/config: {{ printf "%s%s" (include "touchline.config" .) (toYaml $v.files) | sha256sum }}
{{- end }}
{{- end -}}

{{/*
Seconds from the start of both preStop hooks to the end: the longer hook, the end of the backend, the end of touchline, which
a native sidecar gets its own SIGTERM for only then.
*/}}
{{- define "touchline.gracePeriod" -}}
{{- $v := .Values.touchline | default .Values -}}
{{- include "touchline.checkAlias" . -}}
{{- $given := $v.lifecycle.terminationGracePeriodSeconds -}}
{{- $timeout := ($v.config.drain | default dict).timeout | default "25s" -}}
{{- if and $given (contains "${" $timeout) -}}
{{- int $given -}}
{{- else -}}
{{- $ours := 0 -}}
{{- if include "touchline.hasControl" . -}}
{{- $ours = include "touchline.seconds" (dict "time" $v.lifecycle.drainWait "key" "lifecycle.drainWait") | int -}}
{{- end -}}
{{- $hook := max $ours (int $v.lifecycle.backendSleepSeconds) -}}
{{- $end := include "touchline.seconds" (dict "time" $timeout "key" "config.drain.timeout") | int -}}
{{- $least := add $hook (int $v.lifecycle.backendShutdownSeconds) $end -}}
{{- if kindIs "invalid" $given -}}
{{- mul 10 (div (add $least 9) 10) -}}
{{- else if lt (int64 $given) $least -}}
{{- fail (printf "touchline: lifecycle.terminationGracePeriodSeconds is %d, and a stop takes up to %d: %d for the preStop hooks, %d for the backend, %d for config.drain.timeout" (int $given) $least $hook (int $v.lifecycle.backendShutdownSeconds) $end) -}}
{{- else -}}
{{- int $given -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The sidecar: an entry of initContainers, or of containers with `sidecar.mode: container`. */}}
{{- define "touchline.container" -}}
{{- $v := .Values.touchline | default .Values -}}
{{- include "touchline.checkPod" . -}}
{{- $native := eq $v.sidecar.mode "native" -}}
{{- $ingress := include "touchline.ingressPort" . -}}
{{- $admin := include "touchline.adminPort" . | int -}}
{{- $control := $v.config.control | default dict -}}
- name: touchline
  image: {{ include "touchline.image" (dict "image" $v.image "global" .Values.global "tag" (include "touchline.version" .)) }}
  {{- with $v.image.pullPolicy }}
  imagePullPolicy: {{ . }}
  {{- end }}
  {{- if $native }}
  restartPolicy: Always
  {{- end }}
  args: [run, --config, /etc/touchline/proxy.yaml]
  ports:
    {{- if $ingress }}
    - name: ingress
      containerPort: {{ $ingress }}
    {{- end }}
    - name: admin
      containerPort: {{ $admin }}
  env:
    - name: POD_NAME
      valueFrom: { fieldRef: { fieldPath: metadata.name } }
    {{- if (($v.sidecar.resources).limits).memory }}
    - name: TOUCHLINE_MEMORY_LIMIT
      valueFrom: { resourceFieldRef: { resource: limits.memory } }
    {{- end }}
    {{- with $v.sidecar.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $v.sidecar.extraEnvFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  startupProbe:
    httpGet: { path: /livez, port: {{ $admin }} }
    {{- toYaml $v.sidecar.startupProbe | nindent 4 }}
  readinessProbe:
    httpGet: { path: /readyz, port: {{ $admin }} }
    {{- toYaml $v.sidecar.readinessProbe | nindent 4 }}
  livenessProbe:
    httpGet: { path: /livez, port: {{ $admin }} }
    {{- toYaml $v.sidecar.livenessProbe | nindent 4 }}
  {{- if or (not $native) (include "touchline.hasControl" .) }}
  lifecycle:
    {{- if not $native }}
    postStart:
      exec:
        command: [/usr/local/bin/touchline, probe, --wait, 30s, "http://127.0.0.1:{{ $admin }}/livez"]
    {{- end }}
    {{- if include "touchline.hasControl" . }}
    preStop:
      exec:
        {{- if or $control.listen $control.token }}
        command: [/usr/local/bin/touchline, drain, --wait, {{ $v.lifecycle.drainWait }}, --config, /etc/touchline/proxy.yaml]
        {{- else }}
        command: [/usr/local/bin/touchline, drain, --wait, {{ $v.lifecycle.drainWait }}]
        {{- end }}
    {{- end }}
  {{- end }}
  resources:
    {{- toYaml $v.sidecar.resources | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  securityContext:
    {{- toYaml $v.sidecar.securityContext | nindent 4 }}
  volumeMounts:
    - { name: touchline-config, mountPath: /etc/touchline, readOnly: true }
    {{- if $v.existingSecret.name }}
    - { name: touchline-secrets, mountPath: /etc/touchline-secrets, readOnly: true }
    {{- end }}
    {{- with $v.sidecar.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/*
Entries for the backend's env: where it finds what touchline stands in front of. Empty without such a plane. A backend that is
told to use a proxy is told to leave us out.
*/}}
{{- define "touchline.env" -}}
{{- $v := .Values.touchline | default .Values -}}
{{- include "touchline.checkAlias" . -}}
{{- $env := dict -}}
{{- range ($v.backend | default dict).env -}}
{{- $_ := set $env .name (.value | default "") -}}
{{- end -}}
{{- if $v.config.claude -}}
{{- $port := include "touchline.port" (dict "listen" ($v.config.claude.listen | default "127.0.0.1:8081") "key" "claude.listen" "loopback" true) -}}
{{- if not (hasKey $env "ANTHROPIC_BASE_URL") -}}
- name: ANTHROPIC_BASE_URL
  value: http://127.0.0.1:{{ $port }}
{{ end -}}
{{- range $name, $proxies := dict "NO_PROXY" (list "HTTP_PROXY" "HTTPS_PROXY" "ALL_PROXY") "no_proxy" (list "http_proxy" "https_proxy" "all_proxy") -}}
{{- if hasKey $env $name -}}
{{- if not (or (contains "127.0.0.1" (get $env $name)) (eq "*" (get $env $name)) (not (get $env $name))) -}}
{{- fail (printf "touchline: %s in backend.env does not name 127.0.0.1, so calls to Claude would go around touchline: add it" $name) -}}
{{- end -}}
{{- else -}}
{{- $proxied := false -}}
{{- range $proxies -}}
{{- $proxied = or $proxied (hasKey $env .) -}}
{{- end -}}
{{- if $proxied -}}
- name: {{ $name }}
  value: 127.0.0.1
{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The backend's lifecycle: it goes on serving while its endpoints are removed. */}}
{{- define "touchline.backendHook" -}}
{{- $v := .Values.touchline | default .Values -}}
{{- include "touchline.checkAlias" . -}}
{{- if $v.lifecycle.backendPreStop -}}
lifecycle:
  preStop:
    {{- toYaml $v.lifecycle.backendPreStop | nindent 4 }}
{{- else if gt (int $v.lifecycle.backendSleepSeconds) 0 -}}
lifecycle:
  preStop:
    sleep: { seconds: {{ int $v.lifecycle.backendSleepSeconds }} }
{{- end -}}
{{- end -}}

{{/*
Entries of the pod's volumes. Files of a Secret belong to root, and the sidecar's user is not root: 0444 (292) lets it read
them, and no fsGroup has to change what the backend's volumes look like. They are mounted into the sidecar alone.
*/}}
{{- define "touchline.volumes" -}}
{{- $v := .Values.touchline | default .Values -}}
{{- include "touchline.checkAlias" . -}}
- name: touchline-config
  configMap:
    name: {{ include "touchline.configMapName" . }}
{{- with $v.existingSecret }}
{{- if .name }}
- name: touchline-secrets
  secret:
    secretName: {{ .name }}
    defaultMode: 292
    optional: {{ .optional }}
    {{- with .items }}
    items:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
{{- end }}
{{- end -}}
