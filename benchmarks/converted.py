"""A student and a teacher as NeMo's distillation has them, for what trains without its trainer."""

from collections.abc import Callable


def converted(student, teacher: Callable):
    """Megatron's module `student`, as NeMo's distillation has it from the logits of what `teacher()` builds."""
    import modelopt.torch.distill as mtd
    from nemo.collections.llm.modelopt.distill.loss import LogitsAndIntermediatesLossBalancer, LogitsKLLoss
    from nemo.collections.llm.modelopt.distill.utils import DistillationConfig, adjust_distillation_model_for_mcore

    criterion = {("output_layer", "output_layer"): LogitsKLLoss(student.config)}
    balancer = LogitsAndIntermediatesLossBalancer(skip_original_loss=True)
    kd = {"teacher_model": (teacher, [], {}), "criterion": criterion, "loss_balancer": balancer}
    model = mtd.convert(student, mode=[("kd_loss", kd)])
    plan = DistillationConfig(criterion=criterion, loss_balancer=balancer)
    adjust_distillation_model_for_mcore(model, distill_cfg=plan)
    return model
