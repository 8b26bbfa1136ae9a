{{/* The ConfigMap with proxy.yaml and the files beside it; dict "labels" TEXT adds labels to it. */}}

{{- define "touchline.configMap" -}}
{{- $v := .Values.touchline | default .Values -}}
{{- include "touchline.check" . -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "touchline.configMapName" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "touchline.labels" . | nindent 4 }}
  {{- with $v.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
data:
  proxy.yaml: |
    {{- include "touchline.config" . | nindent 4 }}
  {{- range $name, $text := $v.files }}
  {{ $name | quote }}: {{ $text | quote }}
  {{- end }}
{{- end -}}

{{/* What tells the pods of a release from others. */}}
{{- define "touchline.selectorLabels" -}}
{{- $v := .Values.touchline | default .Values -}}
app.kubernetes.io/name: {{ $v.nameOverride | default .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of every object. Those that select cannot be changed by `commonLabels`. */}}
{{- define "touchline.labels" -}}
{{- $v := .Values.touchline | default .Values -}}
{{- $own := dict "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") "app.kubernetes.io/managed-by" .Release.Service "app.kubernetes.io/version" (.Chart.AppVersion | default .Chart.Version) -}}
{{- $own = merge (fromYaml (include "touchline.selectorLabels" .)) ($v.commonLabels | default dict) $own -}}
{{- toYaml $own -}}
{{- end -}}
