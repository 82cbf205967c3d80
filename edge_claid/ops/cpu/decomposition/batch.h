// Many images over threads, and workspaces kept from call to call.
#pragma once
#include <vector>

#include "decomposition.h"

namespace decomposition {

// A workspace for the life of this object; given back afterwards unless it has grown large.
class LentWorkspace {
  public:
    LentWorkspace();
    ~LentWorkspace();
    LentWorkspace(const LentWorkspace&) = delete;
    LentWorkspace& operator=(const LentWorkspace&) = delete;
    Workspace& operator*() const { return *workspace_; }

  private:
    WorkspacePointer workspace_;
};

// Trees of the images in their order; an image that fails ends the batch with its error.
std::vector<Tree> decompose_batch(const Kernels& kernels, const std::vector<Image>& images, const Settings& settings,
                                  size_t threads);

}  // namespace decomposition
