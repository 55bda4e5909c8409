{{/* The variables of docs/inference-model.md and docs/operator.md; a test holds them against what the operator reads. */}}
{{- define "atalaya.operatorEnvironment" -}}
{{- $faces := .Values.faces.enabled -}}
- name: ATALAYA_OPENVINO_REPOSITORY
  value: {{ include "atalaya.repository" (list . ($faces | ternary .Values.faces.openvino .Values.engines.openvino)) | quote }}
- name: ATALAYA_TENSORFLOW_REPOSITORY
  value: {{ include "atalaya.repository" (list . ($faces | ternary .Values.faces.tensorflow .Values.engines.tensorflow)) | quote }}
- name: ATALAYA_SERVING_REPOSITORY
  value: {{ include "atalaya.repository" (list . .Values.serving.image.repository) | quote }}
- name: ATALAYA_SERVING_VERSION
  value: {{ .Values.serving.image.tag | default .Chart.AppVersion | quote }}
- name: ATALAYA_IMAGE_PULL_POLICY
  value: {{ .Values.images.pullPolicy }}
- name: ATALAYA_IMAGE_PULL_SECRETS
  value: {{ join "," .Values.images.pullSecrets | quote }}
- name: ATALAYA_PROMETHEUS_URL
  value: {{ .Values.prometheus.url | quote }}
- name: ATALAYA_ACCELERATOR_GROUPS
  value: {{ range $index, $group := .Values.accelerators.groups }}{{ if $index }},{{ else }}"{{ end }}{{ $group | int }}{{ end }}{{ if .Values.accelerators.groups }}"{{ else }}""{{ end }}
- name: ATALAYA_NVIDIA_RUNTIME_CLASS
  value: {{ .Values.accelerators.nvidiaRuntimeClass | quote }}
- name: ATALAYA_OPERATOR_WORKERS
  value: {{ .Values.operator.workers | quote }}
- name: ATALAYA_LISTING_SECONDS
  value: {{ .Values.operator.listingSeconds | int | quote }}
- name: ATALAYA_OPERATOR_HEALTH_PORT
  value: "8080"
- name: ATALAYA_OPERATOR_METRICS_PORT
  value: "8081"
{{- if .Values.webhook.enabled }}
- name: ATALAYA_WEBHOOK_CONFIGURATION
  value: {{ include "atalaya.name" . }}
- name: ATALAYA_WEBHOOK_NAMES
  value: {{ printf "%s.%s.svc" (include "atalaya.operator" .) .Release.Namespace }}
- name: ATALAYA_WEBHOOK_PORT
  value: "9443"
- name: ATALAYA_WEBHOOK_LOOKS_FOR
  value: {{ list (.Values.webhook.looksForClaims | ternary "PersistentVolumeClaim" "") (.Values.webhook.looksForSecrets | ternary "Secret" "") | join " " | trim | quote }}
{{- if .Values.webhook.certManager.enabled }}
- name: ATALAYA_WEBHOOK_CERTIFICATES
  value: /etc/atalaya/webhook
{{- end }}
{{- end }}
{{- end }}
