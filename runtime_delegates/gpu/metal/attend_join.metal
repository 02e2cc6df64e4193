// Written by build_shaders.py from shaders/attend_join.comp; do not edit. Compile without fast math.
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

template<typename T>
[[clang::optnone]] T spvFSub(T l, T r)
{
    return fma(T(-1), r, l);
}

struct Step
{
    uint step_[1];
};

struct Push
{
    uint heads;
    uint value_dim;
    uint max_parts;
    uint part_rows;
    uint y_stride;
    uint y_head;
};

struct Parts
{
    float parts[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;

struct Y
{
    float y[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _375 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_375, 1u, 1u);

kernel void attend_join(constant Push& p [[buffer(0)]], const device Parts& _184 [[buffer(2)]], device Y& _355 [[buffer(3)]], const device Step& _101 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float largest_of[128];
    threadgroup float denominators[128];
    threadgroup float weights[128];
    do
    {
        uint _106 = _101.step_[1];
        uint _109 = _101.step_[13];
        uint _115 = _101.step_[80u + gl_WorkGroupID.x];
        uint _123 = _101.step_[144u + gl_WorkGroupID.x];
        uint _140 = (((((_106 - _109) + uint(int(popcount(_115)))) + uint(int(popcount(_123)))) + p.part_rows) - 1u) / p.part_rows;
        uint _145 = p.value_dim + 2u;
        uint _158 = (((gl_WorkGroupID.x * p.heads) + gl_WorkGroupID.y) * p.max_parts) * _145;
        if (gl_WorkGroupID.x >= _101.step_[0])
        {
            break;
        }
        for (uint _442 = gl_LocalInvocationID.x; _442 < _140; )
        {
            uint _189 = _158 + (_442 * _145);
            largest_of[_442] = _184.parts[_189];
            denominators[_442] = _184.parts[_189 + 1u];
            _442 += THREADS;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        float _462;
        _462 = largest_of[0];
        for (uint _443 = 1u; _443 < _140; )
        {
            _462 = fast::max(_462, largest_of[_443]);
            _443++;
            continue;
        }
        for (uint _444 = gl_LocalInvocationID.x; _444 < _140; _444 += THREADS)
        {
            float _245 = spvFSub(largest_of[_444], _462);
            float _463;
            do
            {
                if (_245 < (-87.0))
                {
                    _463 = 0.0;
                    break;
                }
                float _403 = floor(fma(_245, 1.44269502162933349609375, 0.5));
                float _409 = fma(_403, 0.00021219444170128554105758666992188, fma(_403, -0.693359375, _245));
                _463 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _409, 0.00139819993637502193450927734375), _409, 0.008333452045917510986328125), _409, 0.0416657961905002593994140625), _409, 0.1666666567325592041015625), _409, 0.5), _409), _409, _409), 1.0) * as_type<float>(uint(int(_403) + 127) << uint(23));
                break;
            } while(false);
            weights[_444] = _463;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        float _452;
        _452 = 0.0;
        for (uint _445 = 0u; _445 < _140; )
        {
            _452 = fma(weights[_445], denominators[_445], _452);
            _445++;
            continue;
        }
        for (uint _446 = gl_LocalInvocationID.x; _446 < p.value_dim; _446 += THREADS)
        {
            uint _447;
            float _449;
            _449 = 0.0;
            _447 = 0u;
            float _724;
            bool _291;
            for (;;)
            {
                _291 = _447 < _140;
                if (_291)
                {
                    uint _310 = _140 - 1u;
                    uint _480 = _447 + 1u;
                    uint _497 = _447 + 2u;
                    uint _514 = _447 + 3u;
                    uint _531 = _447 + 4u;
                    uint _548 = _447 + 5u;
                    uint _565 = _447 + 6u;
                    uint _582 = _447 + 7u;
                    float _471;
                    if (_291)
                    {
                        _471 = fma(weights[_447], _184.parts[((_158 + (min(_447, _310) * _145)) + 2u) + _446], _449);
                    }
                    else
                    {
                        _471 = _449;
                    }
                    float _610;
                    if (_480 < _140)
                    {
                        _610 = fma(weights[_480], _184.parts[((_158 + (min(_480, _310) * _145)) + 2u) + _446], _471);
                    }
                    else
                    {
                        _610 = _471;
                    }
                    float _629;
                    if (_497 < _140)
                    {
                        _629 = fma(weights[_497], _184.parts[((_158 + (min(_497, _310) * _145)) + 2u) + _446], _610);
                    }
                    else
                    {
                        _629 = _610;
                    }
                    float _648;
                    if (_514 < _140)
                    {
                        _648 = fma(weights[_514], _184.parts[((_158 + (min(_514, _310) * _145)) + 2u) + _446], _629);
                    }
                    else
                    {
                        _648 = _629;
                    }
                    float _667;
                    if (_531 < _140)
                    {
                        _667 = fma(weights[_531], _184.parts[((_158 + (min(_531, _310) * _145)) + 2u) + _446], _648);
                    }
                    else
                    {
                        _667 = _648;
                    }
                    float _686;
                    if (_548 < _140)
                    {
                        _686 = fma(weights[_548], _184.parts[((_158 + (min(_548, _310) * _145)) + 2u) + _446], _667);
                    }
                    else
                    {
                        _686 = _667;
                    }
                    float _705;
                    if (_565 < _140)
                    {
                        _705 = fma(weights[_565], _184.parts[((_158 + (min(_565, _310) * _145)) + 2u) + _446], _686);
                    }
                    else
                    {
                        _705 = _686;
                    }
                    if (_582 < _140)
                    {
                        _724 = fma(weights[_582], _184.parts[((_158 + (min(_582, _310) * _145)) + 2u) + _446], _705);
                    }
                    else
                    {
                        _724 = _705;
                    }
                    _449 = _724;
                    _447 += 8u;
                    continue;
                }
                else
                {
                    break;
                }
            }
            _355.y[((gl_WorkGroupID.x * p.y_stride) + (gl_WorkGroupID.y * p.y_head)) + _446] = _449 / _452;
        }
        break;
    } while(false);
}

