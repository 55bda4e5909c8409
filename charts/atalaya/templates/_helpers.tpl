{{/* Every name, label and image reference is made here. */}}

{{- define "atalaya.name" -}}
{{- $name := .Values.fullnameOverride | default (contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name)) -}}
{{- $name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "atalaya.operator" -}}{{ include "atalaya.name" . }}-operator{{- end }}
{{- define "atalaya.dashboard" -}}{{ include "atalaya.name" . }}-dashboard{{- end }}
{{- define "atalaya.webhook" -}}{{ include "atalaya.name" . }}-webhook{{- end }}

{{/* Arguments: the root, the component's name. */}}
{{- define "atalaya.selector" -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
{{- end }}

{{- define "atalaya.labels" -}}
{{ include "atalaya.selector" . }}
app.kubernetes.io/part-of: atalaya
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Arguments: the root, a repository. */}}
{{- define "atalaya.repository" -}}
{{- with (index . 0).Values.images.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ index . 1 }}
{{- end }}

{{/* Arguments: the root, an image with repository and tag. */}}
{{- define "atalaya.image" -}}
{{- $root := index . 0 -}}
{{- include "atalaya.repository" (list $root (index . 1).repository) }}:{{ (index . 1).tag | default $root.Chart.AppVersion }}
{{- end }}

{{- define "atalaya.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What the `restricted` Pod Security Standard asks for, and a read-only root. */}}
{{- define "atalaya.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "atalaya.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Arguments: the values of a part. */}}
{{- define "atalaya.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
