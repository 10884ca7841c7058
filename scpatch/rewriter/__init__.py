"""Rewrites files: plans them, stages all outputs, then puts them in place together.

Each module imports only those after it: `write` and `files`; `thin` and `thin_files` for thin
archives; `object` and `site_table` for objects; `model` and `options`.
"""

from scpatch.rewriter.files import plan_file as plan_file
from scpatch.rewriter.files import without_repeats as without_repeats
from scpatch.rewriter.model import FilePlan as FilePlan
from scpatch.rewriter.model import ObjectPlan as ObjectPlan
from scpatch.rewriter.model import Output as Output
from scpatch.rewriter.model import is_same as is_same
from scpatch.rewriter.model import outputs_of as outputs_of
from scpatch.rewriter.object import plan_object as plan_object
from scpatch.rewriter.object import plan_scanned as plan_scanned
from scpatch.rewriter.options import Lines as Lines
from scpatch.rewriter.options import Options as Options
from scpatch.rewriter.write import Check as Check
from scpatch.rewriter.write import check_refused as check_refused
from scpatch.rewriter.write import staged as staged
from scpatch.rewriter.write import write as write
