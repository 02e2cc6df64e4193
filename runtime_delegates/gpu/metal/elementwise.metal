// Written by build_shaders.py from shaders/elementwise.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

struct Step
{
    uint step_[1];
};

struct Push
{
    uint cols;
    uint a_stride;
    uint b_stride;
    uint y_stride;
    uint silu_mul;
};

struct A
{
    float a[1];
};

struct B
{
    float b[1];
};

struct Y
{
    float y[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _204 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_204, 1u, 1u);

kernel void elementwise(constant Push& p [[buffer(0)]], const device A& _148 [[buffer(2)]], device Y& _194 [[buffer(3)]], const device B& _163 [[buffer(4)]], const device Step& _123 [[buffer(5)]], uint3 gl_GlobalInvocationID [[thread_position_in_grid]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    do
    {
        bool _128 = gl_WorkGroupID.y >= _123.step_[0];
        bool _140;
        if (!_128)
        {
            _140 = gl_GlobalInvocationID.x >= p.cols;
        }
        else
        {
            _140 = _128;
        }
        if (_140)
        {
            break;
        }
        uint _155 = (gl_WorkGroupID.y * p.a_stride) + gl_GlobalInvocationID.x;
        uint _170 = (gl_WorkGroupID.y * p.b_stride) + gl_GlobalInvocationID.x;
        float _296;
        if (p.silu_mul != 0u)
        {
            float _226 = -abs(_148.a[_155]);
            float _294;
            do
            {
                if (_226 < (-87.0))
                {
                    _294 = 0.0;
                    break;
                }
                float _255 = floor(fma(_226, 1.44269502162933349609375, 0.5));
                float _261 = fma(_255, 0.00021219444170128554105758666992188, fma(_255, -0.693359375, _226));
                _294 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _261, 0.00139819993637502193450927734375), _261, 0.008333452045917510986328125), _261, 0.0416657961905002593994140625), _261, 0.1666666567325592041015625), _261, 0.5), _261), _261, _261), 1.0) * as_type<float>(uint(int(_255) + 127) << uint(23));
                break;
            } while(false);
            float _295;
            if (_148.a[_155] < 0.0)
            {
                _295 = _148.a[_155] * _294;
            }
            else
            {
                _295 = _148.a[_155];
            }
            _296 = spvFMul(_295 / (1.0 + _294), _163.b[_170]);
        }
        else
        {
            _296 = spvFAdd(_148.a[_155], _163.b[_170]);
        }
        _194.y[(gl_WorkGroupID.y * p.y_stride) + gl_GlobalInvocationID.x] = _296;
        break;
    } while(false);
}

