package drain

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// Markers on a node that Muster cordoned. The annotation distinguishes our cordon
// from a person's; the label, which kOps also sets when it drains, removes the node
// from the load balancers of Services.
const (
	AnnotationCordoned = "muster.dev/cordoned"
	labelExclude       = "node.kubernetes.io/exclude-from-external-load-balancers"
)

// Cordon makes a node unschedulable and removes it from the load balancers of
// Services. A node that is already cordoned belongs to somebody else and is left
// unchanged.
func Cordon(ctx context.Context, client kubernetes.Interface, name string) error {
	node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("cordon node %s: %w", name, err)
	}
	if node.Spec.Unschedulable {
		return nil
	}
	change := map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{AnnotationCordoned: "true"}},
		"spec":     map[string]any{"unschedulable": true},
	}
	if _, has := node.Labels[labelExclude]; !has {
		change["metadata"].(map[string]any)["labels"] = map[string]any{labelExclude: ""}
		change["metadata"].(map[string]any)["annotations"].(map[string]any)[AnnotationCordoned] = "true,labelled"
	}
	if err := patch(ctx, client, name, node.ResourceVersion, change); err != nil {
		return fmt.Errorf("cordon node %s: %w", name, err)
	}
	return nil
}

// Uncordon reverts what [Cordon] did and nothing else. A node that does not exist
// is no error.
func Uncordon(ctx context.Context, client kubernetes.Interface, name string) error {
	node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("uncordon node %s: %w", name, err)
	}
	mark, ours := node.Annotations[AnnotationCordoned]
	if !ours {
		return nil
	}
	meta := map[string]any{"annotations": map[string]any{AnnotationCordoned: nil}}
	if mark == "true,labelled" {
		meta["labels"] = map[string]any{labelExclude: nil}
	}
	change := map[string]any{"metadata": meta, "spec": map[string]any{"unschedulable": nil}}
	if err := patch(ctx, client, name, node.ResourceVersion, change); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("uncordon node %s: %w", name, err)
	}
	return nil
}

// patch changes a node if it is still at the resource version that was read.
func patch(ctx context.Context, client kubernetes.Interface, name, version string, change map[string]any) error {
	change["metadata"].(map[string]any)["resourceVersion"] = version
	data, err := json.Marshal(change)
	if err != nil {
		return err
	}
	_, err = client.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, data, metav1.PatchOptions{FieldManager: "muster"})
	return err
}
